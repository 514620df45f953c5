package scyllarepo

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gocql/gocql"

	"sluice/internal/platform/fault"
)

// target is what a URL says of a cluster.
type target struct {
	hosts          []string // host or host:port
	keyspace       string
	user, password string
	replication    int
	dc             string
	create         bool
	consistency    gocql.Consistency
	serial         gocql.Consistency
	timeout        time.Duration
	tls            bool
	ca, cert, key  string // paths
}

const form = "scylla://[user:password@]host[:port][,host[:port]…]/keyspace[?replication=3&dc=…&create=false&consistency=quorum&timeout=5s&tls=true&ca=…&cert=…&key=…]"

var keyspaceName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,47}$`)

// parse reads a URL of the form above. Its errors never show the URL, which may
// hold a password.
func parse(text string) (target, error) {
	t := target{replication: 3, create: true, consistency: gocql.LocalQuorum, serial: gocql.LocalSerial, timeout: 5 * time.Second}
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
	t.hosts = strings.Split(place, ",")
	for _, h := range t.hosts {
		if h == "" {
			return t, wrong("names no host")
		}
	}
	if t.keyspace = keyspace; !keyspaceName.MatchString(keyspace) {
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

func (t *target) set(name, value string) (err error) {
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
			t.consistency, t.serial = gocql.Quorum, gocql.Serial
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
