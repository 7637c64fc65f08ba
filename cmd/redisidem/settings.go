package main

import "time"

// settings are the settings of the gateway. Each is a flag, and a field of the configuration file
// with the same name and underscores.
type settings struct {
	redisFlags `yaml:",inline"`

	Upstream        string        `yaml:"upstream" jsonschema:"pattern=^((https?|h2c)://|envoy:$)" placeholder:"URL" help:"The service behind the gateway: http://, https://, or h2c:// for HTTP/2 without TLS, as gRPC uses it. With envoy: the gateway is an external processor of Envoy, which forwards the requests."`
	Listen          string        `yaml:"listen" default:":8080" help:"Address for clients."`
	AdminListen     string        `yaml:"admin_listen" default:"127.0.0.1:8081" help:"Address for /livez, /readyz and /metrics; empty to disable."`
	PolicyURL       string        `yaml:"policy_url" placeholder:"URL" help:"Documentation of the API's idempotency keys. Problems link to it."`
	UpstreamTimeout time.Duration `yaml:"upstream_timeout" default:"30s" help:"How long a client waits for the upstream. A request with a key then continues, and its answer is kept for the retry."`
	ReadTimeout     time.Duration `yaml:"read_timeout" default:"1m" help:"How long a client may take to send a request; 0 for no limit."`
	WriteTimeout    time.Duration `yaml:"write_timeout" default:"5m" help:"How long a request may take until its response is sent; 0 for no limit."`
	KeepHost        bool          `yaml:"keep_host" help:"Forward the client's Host to the upstream."`
	DrainDelay      time.Duration `yaml:"drain_delay" help:"How long to serve as before after SIGTERM, not ready, until load balancers have noticed."`
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout" default:"30s" help:"How long requests and their commits may then take."`
	LogFormat       string        `yaml:"log_format" enum:"text,json" default:"json" help:"Format of the log on standard error: text or json."`

	Scope       string `yaml:"scope" jsonschema:"pattern=^(header:.+|jwt:.+|certificate|unscoped)$" placeholder:"KIND" help:"How callers are identified: header:NAME (set by an authenticating proxy in front, see --trusted-proxy), jwt:CLAIM (such as jwt:sub or jwt:org.id), certificate, or unscoped (all callers share one scope)."`
	JWTKey      string `yaml:"jwt_key" name:"jwt-key" placeholder:"FILE" xor:"jwt" help:"Public key or certificate in PEM that verifies tokens."`
	JWTKeySet   string `yaml:"jwt_jwks" name:"jwt-jwks" placeholder:"FILE|URL" xor:"jwt" help:"JSON Web Key Set with the public keys that verify tokens, in place of --jwt-key: a file, or an http:// or https:// URL that is fetched again for an unknown kid."`
	JWTSecret   string `yaml:"jwt_secret" name:"jwt-secret" placeholder:"FILE" xor:"jwt" help:"HMAC secret of at least 32 bytes that verifies tokens, in place of --jwt-key."`
	JWTIssuer   string `yaml:"jwt_issuer" name:"jwt-issuer" help:"The issuer that tokens must have."`
	JWTAudience string `yaml:"jwt_audience" name:"jwt-audience" help:"The audience that tokens must have."`

	ScopeInFlight int `yaml:"scope_in_flight" placeholder:"N" help:"Requests with keys that one caller may have in flight in all gateways together; 0 for no limit."`
	ScopeKeys     int `yaml:"scope_keys" placeholder:"N" help:"Keys that all gateways together store for one caller within the longest retention; 0 for no limit."`

	CORSOrigins     []string `yaml:"cors_origin" name:"cors-origin" sep:"none" placeholder:"ORIGIN" help:"Origin of pages that may call the service, such as https://shop.example; may be given several times."`
	CORSCredentials bool     `yaml:"cors_credentials" name:"cors-credentials" help:"Let the pages of --cors-origin send cookies."`

	TrustedProxies []string `yaml:"trusted_proxy" name:"trusted-proxy" sep:"none" placeholder:"CIDR" help:"Network or address of proxies in front, whose X-Forwarded-For, -Host and -Proto and Forwarded are continued. Those of other peers are replaced, and they cannot name a caller with --scope header:NAME. May be given several times."`
	ProxyProtocol  bool     `yaml:"proxy_protocol" help:"Read the PROXY protocol, versions 1 and 2, on the connections of trusted proxies."`

	TLSCert     string `yaml:"tls_cert" name:"tls-cert" placeholder:"FILE" help:"Certificate of the listener."`
	TLSKey      string `yaml:"tls_key" name:"tls-key" placeholder:"FILE" help:"Private key of --tls-cert."`
	TLSClientCA string `yaml:"tls_client_ca" name:"tls-client-ca" placeholder:"FILE" help:"Authorities of client certificates. Every client must then have a certificate."`

	UpstreamCA   string `yaml:"upstream_ca" placeholder:"FILE" help:"Authorities to trust for the upstream, in place of the system's."`
	UpstreamCert string `yaml:"upstream_cert" placeholder:"FILE" help:"Client certificate of the gateway for the upstream."`
	UpstreamKey  string `yaml:"upstream_key" placeholder:"FILE" help:"Private key of --upstream-cert."`

	Retention      time.Duration `yaml:"retention" default:"24h" help:"How long responses are stored."`
	Lease          time.Duration `yaml:"lease" default:"10s" help:"How long a gateway that died keeps its keys locked."`
	MaxHold        time.Duration `yaml:"max_hold" default:"15m" help:"How long a request with a key may run, also after its client was answered. Then its outcome is unknown."`
	RedisTimeout   time.Duration `yaml:"redis_timeout" default:"500ms" help:"Timeout of each operation on Redis."`
	Durability     int           `yaml:"durability" help:"Replicas that must acknowledge a claim before the request is forwarded, and the answer before it is returned."`
	CacheBytes     int64         `yaml:"cache_bytes" help:"Bytes of memory for copies of answers, which are replayed without Redis."`
	SpoolDir       string        `yaml:"spool_dir" placeholder:"FOLDER" help:"Folder on a disk for the bodies of requests with a key that are larger than --spool-above: each is in a file until its request ends. Without it all bodies are in memory."`
	SpoolAbove     int64         `yaml:"spool_above" placeholder:"BYTES" help:"Size up to which a body stays in memory with --spool-dir, at least 65536. 0 is the default, 65536."`
	SpoolBytes     int64         `yaml:"spool_bytes" placeholder:"BYTES" help:"Bytes of all files in --spool-dir together. A request whose body does not fit gets 503. 0 is the default, 1 GiB."`
	codecFlags     `yaml:",inline"`
	AcceptPlain    bool     `yaml:"accept_plain" help:"Also accept values that were stored without encryption and compression: for one retention after these are introduced."`
	FingerprintKey []string `yaml:"fingerprint_key" sep:"none" placeholder:"FILE" help:"Secret of at least 16 bytes for the fingerprints of requests; give it again for each older secret."`
	AutoPipeline   bool     `yaml:"auto_pipeline" negatable:"" default:"true" help:"Let concurrent requests share pipelines to Redis."`

	Console gatewayConsole `yaml:"console" embed:"" help:"The console for operators on the admin listener. Its flags begin with --console-, and --console is the field enabled."`

	ReadyWithoutRedis string `yaml:"ready_without_redis" enum:"never,after-start,by-route,always" default:"by-route" help:"When /readyz is ready although Redis cannot be used: never; after-start, once Redis was usable; by-route, also before that if a route has protect: false or without_redis: pass; or always."`
}
