// Package config loads the platform's settings into one typed struct.
//
// A setting has one key, such as http.max_body, spelled the same way in every
// source: http.max_body in the file, SLUICE_HTTP_MAX_BODY in the environment,
// --http-max-body on the command line. A later source overrides an earlier
// one: defaults < file < environment < flags. Nothing is ignored: an unknown
// key anywhere is an error that names the one probably meant, and every number
// has bounds.
//
// To add a section, declare its struct below with these tags on each field:
//
//	key      its name in the section (required)
//	help     what it does, for --help (required)
//	default  its value where no source sets it
//	min max  inclusive bounds; required for numbers, sizes and durations
//	oneof    the allowed values, separated by spaces
//	env      another variable that is read where the setting's own is unset
//	secret   "true" hides the value when settings are printed
//
// What bounds cannot express goes into validate.go.
package config

import "time"

// Config is every setting of the platform. Get one from Load: the zero value
// is not valid.
type Config struct {
	DataDir     string   `key:"data_dir" default:"./data" help:"folder for everything that the platform stores itself"`
	Models      []string `key:"models" help:"models to load at start, separated by commas; empty loads every model of the repository"`
	SecretFile  string   `key:"secret_file" help:"file with the secret that pseudonyms and commitments are made with, the same for all processes; empty is secret.key in data_dir, which the first start makes"`
	SealFile    string   `key:"seal_file" help:"file with the keys that seal secrets in the store, one a line, the one in force first, the same for all processes; empty is seal.key in data_dir, which the first start makes"`
	ONNXRuntime string   `key:"onnxruntime" help:"path of the ONNX Runtime library; empty looks in the user cache"`
	BenchNoop   bool     `key:"bench_noop" default:"false" help:"serve POST /bench/noop, which reads the body and answers a few bytes: the floor that benchmarks compare with"`

	HTTP       HTTP       `key:"http"`
	GRPC       GRPC       `key:"grpc"`
	Ops        Ops        `key:"ops"`
	Auth       Auth       `key:"auth"`
	Database   Database   `key:"database"`
	NATS       NATS       `key:"nats"`
	Blob       Blob       `key:"blob"`
	Upload     Upload     `key:"upload"`
	Export     Export     `key:"export"`
	Evaluation Evaluation `key:"evaluation"`
	Audit      Audit      `key:"audit"`
	Webhook    Webhook    `key:"webhook"`
	Limit      Limit      `key:"limit"`
	Model      Model      `key:"model"`
	Registry   Registry   `key:"registry"`
	Shadow     Shadow     `key:"shadow"`
	Job        Job        `key:"job"`
	Record     Record     `key:"record"`
	Features   Features   `key:"features"`
	Batch      Batch      `key:"batch"`
	Log        Log        `key:"log"`
	Trace      Trace      `key:"trace"`
	Runtime    Runtime    `key:"runtime"`
	Shutdown   Shutdown   `key:"shutdown"`

	origins map[string]string // key -> the source that set it; absent: the default
}

// HTTP configures the public HTTP listener and its limits.
type HTTP struct {
	Addr              string        `key:"addr" default:"127.0.0.1:8000" help:"listen address; loopback only unless auth.mode=required"`
	MaxBody           Size          `key:"max_body" default:"64MiB" min:"1KiB" max:"4GiB" help:"largest request body; more is answered 413"`
	MaxHeld           Size          `key:"max_held" default:"0" min:"0" max:"1TiB" help:"memory of all requests being served together: bodies, what they are decompressed and decoded to, answers; more are answered 503; 0 is a quarter of runtime.memory_limit, at most 2GiB"`
	MaxHeader         Size          `key:"max_header" default:"64KiB" min:"4KiB" max:"1MiB" help:"largest request header; more is answered 431"`
	MaxConnections    int           `key:"max_connections" default:"4096" min:"1" max:"1000000" help:"open connections; further ones are answered 503 and closed"`
	MaxInFlight       int           `key:"max_in_flight" default:"2048" min:"1" max:"1000000" help:"requests being served; further ones are answered 503 at once"`
	ReadHeaderTimeout time.Duration `key:"read_header_timeout" default:"5s" min:"10ms" max:"5m" help:"time for a request's header to arrive"`
	ReadTimeout       time.Duration `key:"read_timeout" default:"1m" min:"10ms" max:"1h" help:"time for a whole request, body included, to arrive; does not limit its processing"`
	WriteTimeout      time.Duration `key:"write_timeout" default:"5m" min:"10ms" max:"1h" help:"time from a request's header to the end of its answer; event streams renew it with every event"`
	IdleTimeout       time.Duration `key:"idle_timeout" default:"2m" min:"10ms" max:"1h" help:"time that a kept connection may be idle"`
	H2C               bool          `key:"h2c" default:"true" help:"also speak HTTP/2 without TLS"`
	CORSOrigins       []string      `key:"cors_origins" help:"origins, such as https://console.example, whose web pages may call this server, separated by commas; empty allows none"`
}

// GRPC configures the public gRPC listener and its limits.
type GRPC struct {
	Addr           string        `key:"addr" default:"127.0.0.1:8001" help:"listen address; loopback only unless auth.mode=required"`
	MaxMessage     Size          `key:"max_message" default:"512MiB" min:"1KiB" max:"2047MiB" help:"largest request message; more is answered RESOURCE_EXHAUSTED"`
	MaxHeld        Size          `key:"max_held" default:"0" min:"0" max:"1TiB" help:"memory of all requests being received and served together, and of their answers; more are answered UNAVAILABLE; 0 is a quarter of runtime.memory_limit, at most 2GiB"`
	MaxConnections int           `key:"max_connections" default:"4096" min:"1" max:"1000000" help:"open connections; further ones wait"`
	MaxStreams     int           `key:"max_streams" default:"1000" min:"1" max:"1000000" help:"concurrent calls per connection; the client holds further ones back"`
	Keepalive      time.Duration `key:"keepalive" default:"1m" min:"1s" max:"24h" help:"silence after which a client is asked whether it is still there"`
}

// Ops configures the operations listener: metrics, probes and profiles.
type Ops struct {
	Addr string `key:"addr" default:"127.0.0.1:8002" help:"listen address; loopback only unless auth.mode=required"`
}

// Auth configures who may use the platform. While it is off everybody may do
// everything, so every listener stays on loopback.
type Auth struct {
	Mode           string   `key:"mode" default:"off" oneof:"off required" help:"off: no credentials, loopback only; required: every request needs an API key or a token, and the first start makes a key"`
	BootstrapFile  string   `key:"bootstrap_file" help:"where the first start writes the first API key; empty is bootstrap.key in data_dir"`
	JWTIssuer      string   `key:"jwt_issuer" help:"the claim iss of bearer tokens to accept; empty accepts none"`
	JWTAudience    string   `key:"jwt_audience" help:"what the claim aud of these tokens has to contain"`
	JWTKeys        string   `key:"jwt_keys" help:"the issuer's key set: an https URL, or a file"`
	JWTAlgorithms  []string `key:"jwt_algorithms" default:"RS256,PS256,ES256,EdDSA" help:"signature algorithms that the issuer may use"`
	JWTTenant      string   `key:"jwt_tenant" help:"tenant of all tokens of the issuer; empty takes it from jwt_tenant_claim"`
	JWTTenantClaim string   `key:"jwt_tenant_claim" default:"tenant" help:"claim with the tenant; a dot leads into an object"`
	JWTRolesClaim  string   `key:"jwt_roles_claim" default:"roles" help:"claim with the roles; a dot leads into an object"`
}

// Database configures the store of everything but predictions and objects.
type Database struct {
	URL string `key:"url" secret:"true" help:"sqlite:path, or scylla://[user:password@]host:port[,host:port]/keyspace?replication=3&dc=name&tls=true&ca=path; empty is sqlite:sluice.db in data_dir"`
}

// NATS configures the queue.
type NATS struct {
	URL         []string      `key:"url" help:"servers of one cluster, nats://host:port or tls://host:port, separated by commas; empty runs a server in this process"`
	Replicas    int           `key:"replicas" default:"1" min:"1" max:"5" help:"servers of the cluster that keep each message"`
	Credentials string        `key:"credentials" help:"file with the credentials of a user"`
	NKey        string        `key:"nkey" help:"file with the seed of an nkey"`
	User        string        `key:"user" help:"user name, where the servers ask for one"`
	Password    string        `key:"password" secret:"true" help:"password of the user"`
	Token       string        `key:"token" secret:"true" help:"token, where the servers ask for one"`
	CA          string        `key:"ca" help:"file with the certificates of the authorities that the servers' certificates may come from; empty is the system's"`
	Cert        string        `key:"cert" help:"file with this client's certificate"`
	Key         string        `key:"key" help:"file with the certificate's private key"`
	Sync        time.Duration `key:"sync" default:"10s" min:"0s" max:"10m" help:"how often the server in this process makes its messages survive a loss of power; 0 does with every message. The outbox sends again what was lost"`
	MaxStore    Size          `key:"max_store" default:"10GiB" min:"64MiB" max:"16TiB" help:"disk space of the server in this process"`
}

// Blob configures where objects are kept.
type Blob struct {
	URL string `key:"url" secret:"true" help:"file:path, or s3://[key:secret@]host[:port]/bucket?region=name&prefix=folder&insecure=true&ca=path&path_style=false&create=false; empty is file:blobs in data_dir"`
}

// Upload configures what clients may upload. One request has at most http.max_body.
type Upload struct {
	MaxSize    Size          `key:"max_size" default:"5GiB" min:"1KiB" max:"78GiB" help:"largest upload, in as many requests as it takes"`
	Quota      Size          `key:"quota" default:"50GiB" min:"1KiB" max:"1024TiB" help:"bytes of all uploads of a tenant; an open one counts with what it may become"`
	MaxUploads int           `key:"max_uploads" default:"1000" min:"1" max:"100000" help:"uploads of a tenant"`
	Expiry     time.Duration `key:"expiry" default:"24h" min:"1m" max:"47h" help:"time for an upload to be complete, from its beginning"`
	Keep       time.Duration `key:"keep" default:"168h" min:"1m" max:"8760h" help:"time for which the content of a complete upload is kept"`
}

// Export configures the files that clients have written of what the store keeps.
type Export struct {
	Keep       time.Duration `key:"keep" default:"168h" min:"1m" max:"8760h" help:"time for which the files of a complete export are kept"`
	PartSize   Size          `key:"part_size" default:"1GiB" min:"64KiB" max:"3GiB" help:"bytes of a file of an export after which the next begins"`
	Workers    int           `key:"workers" default:"2" min:"0" max:"64" help:"exports that the process runs at a time; 0 leaves them to other processes"`
	MaxActive  int           `key:"max_active" default:"20" min:"1" max:"10000" help:"exports of a tenant that wait or run"`
	MaxSort    Size          `key:"max_sort" default:"20GiB" min:"1MiB" max:"16TiB" help:"bytes of files in data_dir/scratch that the sorting of one export may take; 32 MiB are sorted in memory"`
	MaxExports int           `key:"max_exports" default:"1000" min:"1" max:"100000" help:"exports of a tenant that are remembered"`
}

// Evaluation configures what versions are asked again that was asked before.
type Evaluation struct {
	Keep           time.Duration `key:"keep" default:"168h" min:"1m" max:"8760h" help:"time for which an evaluation that has ended is kept, with its differences"`
	Workers        int           `key:"workers" default:"1" min:"0" max:"64" help:"evaluations that the process runs at a time; 0 leaves them to other processes"`
	MaxActive      int           `key:"max_active" default:"10" min:"1" max:"10000" help:"evaluations of a tenant that wait or run"`
	MaxEvaluations int           `key:"max_evaluations" default:"500" min:"1" max:"100000" help:"evaluations of a tenant that are remembered"`
	MaxRows        int           `key:"max_rows" default:"1000000" min:"1" max:"10000000" help:"rows that an evaluation may compare"`
}

// Audit configures the log of who did what.
type Audit struct {
	Origin  string `key:"origin" default:"sluice/audit" help:"name of the log in its checkpoints; it never changes"`
	KeyFile string `key:"key_file" help:"file with the key that signs the log, the same for all processes; empty is audit.key in data_dir, which the first start makes"`
}

// Webhook configures what webhook endpoints may be, and how they are called.
type Webhook struct {
	Ports        []string      `key:"ports" help:"ports that endpoints may have beside 443, separated by commas"`
	Allow        []string      `key:"allow" help:"networks such as 10.1.0.0/16 that are called although they are not of the public internet, separated by commas; empty calls public addresses only"`
	CA           string        `key:"ca" help:"file with the certificates of the authorities that endpoints' certificates may come from; empty is the system's"`
	Timeout      time.Duration `key:"timeout" default:"20s" min:"1s" max:"30s" help:"time for an endpoint to answer"`
	DisableAfter time.Duration `key:"disable_after" default:"120h" min:"1h" max:"720h" help:"time of failures only after which an endpoint is disabled"`
}

// Limit configures quotas. They are counted by each process for itself.
type Limit struct {
	TenantRate  int `key:"tenant_rate" default:"5000" min:"0" max:"10000000" help:"requests per second of one tenant, where authentication is required; 0 is no limit"`
	TenantBurst int `key:"tenant_burst" default:"10000" min:"1" max:"10000000" help:"requests of one tenant at once, in whole seconds of tenant_rate"`
	KeyRate     int `key:"key_rate" default:"2000" min:"0" max:"10000000" help:"requests per second with one credential, where authentication is required; 0 is no limit"`
	KeyBurst    int `key:"key_burst" default:"4000" min:"1" max:"10000000" help:"requests with one credential at once, in whole seconds of key_rate"`
}

// Model configures the model repository and the defaults of served models.
type Model struct {
	Repository   string        `key:"repository" default:"./models" help:"folder of models: <name>/<version>/model.onnx"`
	Control      string        `key:"control" default:"explicit" oneof:"none poll explicit" help:"what changes the served models after start: nothing, the repository's files, or the load and unload calls"`
	PollInterval time.Duration `key:"poll_interval" default:"5s" min:"100ms" max:"1h" help:"how often control=poll looks at the repository"`
	Strict       bool          `key:"strict" default:"false" help:"exit when a model cannot be loaded at start, instead of serving the others and reporting not ready"`
	SLO          time.Duration `key:"slo" default:"100ms" min:"1ms" max:"10m" help:"time within which an online request should be answered, where the model's own configuration sets none"`
	MaxBatch     int           `key:"max_batch" default:"32" min:"1" max:"1024" help:"most rows in one run, where the model's own configuration sets none"`
	MaxQueue     int           `key:"max_queue" default:"4096" min:"1" max:"1000000" help:"requests waiting per model version; further ones are refused at once"`
	MaxFile      Size          `key:"max_file" default:"1GiB" min:"1KiB" max:"2GiB" help:"largest model file"`

	Signatures    string   `key:"signatures" default:"off" oneof:"off warn require" help:"what becomes of versions without a signature of model.signature_keys, when they are registered and loaded: nothing, a warning in the log, or they are refused"`
	SignatureKeys []string `key:"signature_keys" help:"PEM files with the public keys and certificate authorities whose signatures count, separated by commas"`
}

// Registry configures the versions of models that clients register.
type Registry struct {
	Memory    Size          `key:"memory" default:"0" min:"0" max:"16TiB" help:"memory that loaded versions take together, by measure; beyond it those that were not used for longest are unloaded; 0 is half of runtime.memory_limit"`
	Wait      time.Duration `key:"wait" default:"20s" min:"0s" max:"10m" help:"time that a request waits for its version to be loaded; then it is answered 503, to be tried again; 0 never waits"`
	Cache     Size          `key:"cache" default:"20GiB" min:"0" max:"1024TiB" help:"files of versions that are kept in data_dir; beyond it those that were not used for longest are removed"`
	Retention time.Duration `key:"retention" default:"168h" min:"1m" max:"8760h" help:"time for which a deleted version can be restored; then its files are removed"`
}

// Shadow configures copies of requests for versions whose answers are only compared.
type Shadow struct {
	Queue   int           `key:"queue" default:"64" min:"1" max:"100000" help:"copies of requests that may wait for idle capacity; further ones are dropped"`
	Memory  Size          `key:"memory" default:"64MiB" min:"4KiB" max:"1TiB" help:"memory of all copies, inputs and answers; more is dropped"`
	Wait    time.Duration `key:"wait" default:"1s" min:"1ms" max:"10m" help:"time that a copy waits for idle capacity; then it is dropped"`
	Timeout time.Duration `key:"timeout" default:"30s" min:"10ms" max:"10m" help:"time of the run of a copy; then the version has failed it"`
}

// Job configures durable predictions.
type Job struct {
	Concurrency        int           `key:"concurrency" default:"64" min:"0" max:"1024" help:"durable predictions that this process runs at once; 0 leaves them to others: bin/api then only accepts them, and bin/worker needs no models"`
	MaxQueued          int           `key:"max_queued" default:"100000" min:"1" max:"100000000" help:"durable predictions that may wait to be run; further ones are answered 503"`
	MaxQueuedPerTenant int           `key:"max_queued_per_tenant" default:"20000" min:"1" max:"100000000" help:"of these, those of one tenant"`
	MaxWait            time.Duration `key:"max_wait" default:"1h" min:"1s" max:"720h" help:"time that a tenant's durable predictions may wait to be run, the oldest until now or the next by the rate at which they are begun; further ones are answered 503"`
	MaxRun             time.Duration `key:"max_run" default:"10m" min:"1s" max:"24h" help:"time of one attempt at a durable prediction, from its start on; then it is tried again"`
	MaxStall           time.Duration `key:"max_stall" default:"2m" min:"1s" max:"24h" help:"time that an attempt waits while its model completes no run at all; the model is taken to hang then, and another worker tries"`
	MaxHold            time.Duration `key:"max_hold" default:"1h" min:"1m" max:"720h" help:"time that a durable prediction waits for a worker which has its model, or for the end of the model's quarantine; then it becomes a dead letter"`
	Quarantine         int           `key:"quarantine" default:"3" min:"0" max:"1000" help:"deaths of workers that ran one version of a model, at different times and with different predictions, after which that version is not run any more; 0 never stops running it"`
}

// Record configures the log of predictions.
type Record struct {
	URL            string        `key:"url" secret:"true" help:"sqlite:path, or clickhouse://[user:password@]host:port/database, or http in place of clickhouse for ClickHouse over HTTP; none keeps no log; empty is sqlite:predictions.db in data_dir"`
	Buffer         int           `key:"buffer" default:"32768" min:"1" max:"10000000" help:"settled predictions that may wait to be logged; further ones are not logged, and counted"`
	Keep           time.Duration `key:"keep" default:"168h" min:"1h" max:"87600h" help:"time for which entries are kept"`
	KeepStatistics time.Duration `key:"keep_statistics" default:"9600h" min:"1h" max:"87600h" help:"time for which what each minute comes to is kept"`
	MaxSize        Size          `key:"max_size" default:"20GiB" min:"1MiB" max:"16TiB" help:"largest SQLite file; further predictions are not logged, and counted"`
}

// Features configures the store of features that models take.
type Features struct {
	URL string `key:"url" secret:"true" help:"sqlite:path, or scylla://host/keyspace for several nodes; none has no feature store; empty is database.url where that is a cluster, else sqlite:features.db in data_dir"`
}

// Batch configures batches: files of rows that a model answers.
type Batch struct {
	Concurrency int           `key:"concurrency" default:"2" min:"0" max:"256" help:"chunks of batches that this process runs at once, each in some tens of megabytes; 0 leaves them to others"`
	MaxOpen     int           `key:"max_open" default:"16" min:"1" max:"10000" help:"batches of a tenant that have not ended; further ones are answered 429"`
	MaxRows     int           `key:"max_rows" default:"10000000" min:"1" max:"1000000000" help:"rows of one batch; with row ids each takes about 16 bytes of memory while they are counted"`
	MaxInflated Size          `key:"max_inflated" default:"20GiB" min:"1KiB" max:"1TiB" help:"bytes that a compressed file may inflate to"`
	Lease       time.Duration `key:"lease" default:"30s" min:"1s" max:"10m" help:"time without a sign of life after which a worker counts as dead, and another runs its chunk"`
	Keep        time.Duration `key:"keep" default:"168h" min:"1m" max:"8760h" help:"time for which a batch and its results are kept from its end on"`
}

// Log configures the log on standard error.
type Log struct {
	Level               string `key:"level" default:"info" oneof:"debug info warn error" help:"least level written; debug also writes one line per request"`
	Format              string `key:"format" default:"json" oneof:"json text" help:"json with ECS field names, or text for a terminal"`
	Elasticsearch       string `key:"elasticsearch_url" help:"base URL of an Elasticsearch that JSON lines are also sent to; empty sends none"`
	ElasticsearchAPIKey string `key:"elasticsearch_api_key" secret:"true" help:"API key for it, in base64, as Elasticsearch gives it"`
}

// Trace configures OpenTelemetry traces. The exporter also honours the
// standard OTEL_EXPORTER_OTLP_ variables (headers, certificates, timeout).
type Trace struct {
	Endpoint    string  `key:"endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" help:"base URL of an OTLP/HTTP collector, as http://host:4318; empty turns tracing off"`
	SampleRatio float64 `key:"sample_ratio" default:"0.01" min:"0" max:"1" help:"share of new traces that is recorded; a caller's own decision is followed"`
}

// Runtime tunes the Go runtime.
type Runtime struct {
	GOGC        int  `key:"gogc" default:"400" min:"10" max:"10000" help:"heap growth in percent between collections; 400 instead of Go's 100 spends memory to save CPU, for the live heap is small (GOGC, where set, wins)"`
	MaxGarbage  Size `key:"max_garbage" default:"64MiB" min:"0" max:"16TiB" help:"most garbage between collections where gogc would leave more, with what lives without pointers up to a half of it, but as much as has pointers; 0 leaves what gogc says"`
	MemoryLimit Size `key:"memory_limit" default:"0" min:"0" max:"16TiB" help:"soft limit of Go's own memory, which collects more often near it; 0 is half of the machine's or container's memory (GOMEMLIMIT, where set, wins)"`
}

// Shutdown configures the way out after SIGTERM or SIGINT.
type Shutdown struct {
	Notice time.Duration `key:"notice" default:"500ms" min:"0s" max:"5m" help:"time between reporting not ready and closing the listeners: set it to what the load balancer needs to notice"`
	Grace  time.Duration `key:"grace" default:"30s" min:"0s" max:"1h" help:"time for accepted requests to finish before they are cancelled"`
}
