package s3blob

import (
	"cmp"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// Config says which bucket, and how it is reached.
type Config struct {
	Endpoint  string // host or host:port
	Bucket    string
	AccessKey string // without one, requests are not signed
	SecretKey string
	Region    string // us-east-1 if empty
	// Prefix is a folder of the bucket that holds everything, so that several
	// programs share it; "" is the whole bucket. S3's 1,024 bytes are for prefix
	// and key together.
	Prefix   string
	Insecure bool   // plain HTTP
	CA       []byte // PEM, trusted besides the system's; nil for none
	// VirtualHost names the bucket in the host instead of the path.
	VirtualHost bool
	// NoCreate leaves a missing bucket missing: Open then fails.
	NoCreate bool

	// Silence is how long a server may send or take nothing while it should; 30 s if 0.
	Silence time.Duration
	// Tries is how often a request is tried, with growing pauses; 3 if 0.
	Tries int
	// PartSize is what is buffered of a body, and beyond which it is sent in
	// parts; 16 MiB if 0. S3 allows 10,000 of them.
	PartSize int64
}

// Parse reads a configuration from an address:
//
//	s3://[key:secret@]host[:port]/bucket?region=&prefix=&insecure=true&path_style=false&create=false&ca=file.pem
//
// Its errors do not show the address, which holds a secret.
func Parse(address string) (Config, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.Opaque != "" {
		return Config{}, badConfig("the address names no bucket: expected s3://key:secret@host:port/bucket, special characters of the secret percent-encoded")
	}
	c := Config{Endpoint: u.Host, Bucket: strings.Trim(u.Path, "/"), AccessKey: u.User.Username()}
	c.SecretKey, _ = u.User.Password()
	pathStyle, create := true, true
	for name, values := range u.Query() {
		value := values[0]
		switch name {
		case "region":
			c.Region = value
		case "prefix":
			c.Prefix = strings.Trim(value, "/")
		case "insecure":
			c.Insecure, err = strconv.ParseBool(value)
		case "path_style":
			pathStyle, err = strconv.ParseBool(value)
		case "create":
			create, err = strconv.ParseBool(value)
		case "ca":
			if c.CA, err = os.ReadFile(value); err != nil {
				return Config{}, fault.Wrap(fault.Invalid, err, "the certificates of the object store cannot be read").WithCode(codeConfig)
			}
		default:
			return Config{}, badConfig("the address has an unknown setting %q: known are region, prefix, insecure, path_style, create and ca", name)
		}
		if err != nil {
			return Config{}, badConfig("the setting %s of the address must be true or false", name)
		}
	}
	c.VirtualHost, c.NoCreate = !pathStyle, !create
	return c, c.withDefaults().check()
}

func (c Config) check() error {
	switch {
	case c.Endpoint == "":
		return badConfig("the object store has no endpoint: expected host or host:port")
	case c.Bucket == "" || strings.Contains(c.Bucket, "/"):
		return badConfig("%q is not the name of a bucket: expected one part, like s3://host/bucket", c.Bucket)
	case (c.AccessKey == "") != (c.SecretKey == ""):
		return badConfig("the object store has a key without its secret, or the reverse")
	case c.PartSize < blob.MinPartSize:
		return badConfig("a part size of %d bytes is less than S3 allows, %d", c.PartSize, blob.MinPartSize)
	case c.Tries < 1 || c.Silence < 0:
		return badConfig("tries and silence must be positive")
	}
	return blob.CheckFolder(c.Prefix)
}

// withDefaults returns c with values where it had none.
func (c Config) withDefaults() Config {
	c.Region = cmp.Or(c.Region, "us-east-1")
	c.Silence = cmp.Or(c.Silence, 30*time.Second)
	c.Tries = cmp.Or(c.Tries, 3)
	c.PartSize = cmp.Or(c.PartSize, 16<<20)
	return c
}

const codeConfig = "invalid_object_store"

func badConfig(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode(codeConfig)
}
