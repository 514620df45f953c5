package cql

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/fault"
)

// Target is what a URL says of a cluster.
type Target struct {
	Keyspace    string
	Consistency gocql.Consistency
	Serial      gocql.Consistency // of lightweight transactions, and of reads that finish them
	Hosts       []string          // host or host:port

	user, password string
	replication    int
	dc             string
	create         bool
	timeout        time.Duration
	tls            bool
	ca, cert, key  string // paths
}

const form = "scylla://[user:password@]host[:port][,host[:port]…]/keyspace[?replication=3&dc=…&create=false&consistency=quorum&timeout=5s&tls=true&ca=…&cert=…&key=…]"

var keyspaceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// Parse reads a URL:
//
//	scylla://[user:password@]host[:port][,host[:port]…]/keyspace[?…]
//
// The parameters are replication (default 3) and dc (default: of the node that
// answers) for a new keyspace, create (default true), consistency (local_quorum
// or quorum), timeout of one statement (default 5 s), tls, and ca, cert and key,
// which are paths and imply tls. Its errors, fault.Invalid, never show the URL, which
// may hold a password.
func Parse(text string) (Target, error) {
	t := Target{replication: 3, create: true, Consistency: gocql.LocalQuorum, Serial: gocql.LocalSerial, timeout: 5 * time.Second}
	rest, ok := strings.CutPrefix(text, "scylla://")
	if !ok {
		return t, wrong("does not begin with scylla://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	place, keyspace, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(place, '@'); at >= 0 {
		// Only the part before the @ is percent-encoded; several hosts are no URL's.
		u, err := url.Parse("x://" + place[:at] + "@x")
		if err != nil {
			return t, wrong("has a user or password that must be percent-encoded")
		}
		t.user = u.User.Username()
		t.password, _ = u.User.Password()
		place = place[at+1:]
	}
	t.Hosts = strings.Split(place, ",")
	for _, h := range t.Hosts {
		if h == "" {
			return t, wrong("names no host")
		}
	}
	if t.Keyspace = keyspace; !keyspaceName.MatchString(keyspace) {
		return t, wrong("has no keyspace of 1 to 48 lower case letters, digits and underscores")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return t, wrong("has a query that cannot be read")
	}
	for name := range values {
		if err := t.set(name, values.Get(name)); err != nil {
			return t, err
		}
	}
	if (t.cert == "") != (t.key == "") {
		return t, wrong("has one of cert and key without the other")
	}
	return t, nil
}

func (t *Target) set(name, value string) (err error) {
	switch name {
	case "replication":
		t.replication, err = strconv.Atoi(value)
		if err == nil && (t.replication < 1 || t.replication > 9) {
			return wrong("has a replication that is not between 1 and 9")
		}
	case "dc":
		t.dc = value
	case "create":
		t.create, err = strconv.ParseBool(value)
	case "timeout":
		t.timeout, err = time.ParseDuration(value)
		if err == nil && t.timeout <= 0 {
			return wrong("has a timeout that is not above 0")
		}
	case "tls":
		t.tls, err = strconv.ParseBool(value)
	case "ca":
		t.ca, t.tls = value, true
	case "cert":
		t.cert, t.tls = value, true
	case "key":
		t.key, t.tls = value, true
	case "consistency":
		switch value {
		case "local_quorum":
		case "quorum":
			t.Consistency, t.Serial = gocql.Quorum, gocql.Serial
		default: // fewer replicas would forget what was acknowledged
			return wrong("has a consistency that is neither local_quorum nor quorum")
		}
	default:
		return wrong("has an unknown parameter " + strconv.Quote(fault.Clip(name, 32)))
	}
	if err != nil {
		return wrong("has a " + name + " that cannot be read")
	}
	return nil
}

func wrong(what string) error {
	return fault.New(fault.Invalid, "the store's address %s; expected %s", what, form).WithCode("invalid_store_url")
}
