package caddyidem

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/redisidem/redisidem/contrib/promidem"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
	"github.com/redisidem/redisidem/redisidem/httpidem"
)

// Store configures the Redis that keeps the records. Handlers with the same Store share its
// connections, also across reloads.
type Store struct {
	// Redis is the URL of the server, as package redisidem takes it: redis://, rediss://,
	// redis+cluster:// and redis+sentinel://. It may have placeholders, such as {env.REDIS_URL}.
	// Required.
	Redis string `json:"redis,omitempty"`
	// Namespace is the prefix of all names in Redis. Default: redisidem.
	Namespace string `json:"namespace,omitempty"`
	// Timeout bounds each operation on Redis. Default: 500ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`
	// Lease is how long a key stays locked after its Caddy has died. Default: 10s.
	Lease caddy.Duration `json:"lease,omitempty"`
	// Retention is how long a record is kept after its last change. Default: 24h.
	Retention caddy.Duration `json:"retention,omitempty"`
	// MaxValue bounds each stored value in bytes. Default: 1 MiB.
	MaxValue int `json:"max_value,omitempty"`
	// Durability is the number of replicas that must acknowledge each claim and each response.
	// Default: 0.
	Durability int `json:"durability,omitempty"`
	// EncryptionKeyFile encrypts values with AES-256-GCM. The file has one key on each line, newest
	// first: see [codec.ReadEncryptionKeys]. The first key encrypts, and all of them decrypt. It is
	// read with each configuration of Caddy. Default: values are not encrypted.
	EncryptionKeyFile string `json:"encryption_key_file,omitempty"`
	// Compressed compresses values of 1 KiB and more, before they are encrypted.
	Compressed bool `json:"compressed,omitempty"`
	// AcceptPlain also accepts values that were stored without encryption and compression: for one
	// retention after these are introduced.
	AcceptPlain bool `json:"accept_plain,omitempty"`
	// SpoolDir is a folder for the bodies of requests that are larger than SpoolAbove, which are in
	// memory otherwise. SpoolBytes limits all of its files together, and is at least MaxBody. The
	// other two need SpoolDir. Default: no folder, 64 KiB and 1 GiB.
	SpoolDir   string `json:"spool_dir,omitempty"`
	SpoolAbove int64  `json:"spool_above,omitempty"`
	SpoolBytes int64  `json:"spool_bytes,omitempty"`
	// ScopeInFlight is how many requests with keys a scope may have in flight, and ScopeKeys how
	// many keys it may use within Retention, in all processes with this Namespace together: see
	// [redisidem.Quota]. Further requests are answered with 429. They should be the same in all
	// processes. Default: no limit.
	ScopeInFlight int `json:"scope_in_flight,omitempty"`
	ScopeKeys     int `json:"scope_keys,omitempty"`
	// AutoPipeline sends the commands of concurrent requests in common pipelines.
	AutoPipeline bool `json:"auto_pipeline,omitempty"`
}

// store is a service that handlers share.
type store struct {
	pooled   string // its name in stores
	service  *redisidem.Service
	quota    *redisidem.Quota // nil without a limit
	spool    *httpidem.Spool  // nil if all bodies are in memory
	metrics  *promidem.Metrics
	requests *prometheus.CounterVec
}

// stores holds the stores in use, by their configuration.
var stores = caddy.NewUsagePool()

// closeTimeout is how long a store waits for the work in flight when its last handler has gone.
const closeTimeout = 10 * time.Second

// openStore returns the store with a configuration, and adds its metrics to those of ctx. The
// caller must release it.
func openStore(ctx caddy.Context, cfg Store) (*store, error) {
	replacer := caddy.NewReplacer()
	var err error
	if cfg.Redis, err = replacer.ReplaceOrErr(cfg.Redis, true, true); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	if cfg.Redis == "" {
		return nil, errors.New("redis: is required: the URL of the server")
	}
	values, version, err := cfg.codec()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	name := string(text) + version // other keys make another store
	value, _, err := stores.LoadOrNew(name, func() (caddy.Destructor, error) { return newStore(ctx, name, cfg, values) })
	if err != nil {
		return nil, err
	}
	s, ok := value.(*store)
	if !ok {
		return nil, fmt.Errorf("the pool has a %T", value)
	}
	if err := s.register(ctx); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// compressFrom is the size in bytes from which values are compressed.
const compressFrom = 1 << 10

// codec returns the codec of values, or nil if they are stored as they are. version differs between
// the contents of EncryptionKeyFile.
func (c *Store) codec() (values redisidem.Codec, version string, err error) {
	var chain []redisidem.Codec
	if c.Compressed {
		compression, err := codec.NewCompression(compressFrom)
		if err != nil {
			return nil, "", fmt.Errorf("compressed: %w", err)
		}
		chain = append(chain, compression)
	}
	if c.EncryptionKeyFile != "" {
		keys, err := codec.ReadEncryptionKeys(c.EncryptionKeyFile)
		if err != nil {
			return nil, "", fmt.Errorf("encryption_key_file: %w", err)
		}
		encryption, err := codec.NewEncryption(keys...)
		if err != nil {
			return nil, "", fmt.Errorf("encryption_key_file: %s: %w", c.EncryptionKeyFile, err)
		}
		digest := sha256.New()
		for _, k := range keys {
			_, _ = fmt.Fprintf(digest, "%q %x\n", k.ID, k.Secret) // a digest returns no error
		}
		chain, version = append(chain, encryption), hex.EncodeToString(digest.Sum(nil))
	}
	switch {
	case len(chain) == 0 && c.AcceptPlain:
		return nil, "", errors.New("accept_plain: needs encryption_key_file or compressed")
	case len(chain) == 0:
		return nil, "", nil
	}
	if values, err = codec.Chain(chain...); err == nil && c.AcceptPlain {
		values = codec.Optional(values)
	}
	return values, version, err
}

// openSpool returns the spool, or nil if all bodies are in memory.
func (c *Store) openSpool() (*httpidem.Spool, error) {
	switch {
	case c.SpoolDir == "" && c.SpoolAbove != 0:
		return nil, errors.New("spool_above: needs spool_dir")
	case c.SpoolDir == "" && c.SpoolBytes != 0:
		return nil, errors.New("spool_bytes: needs spool_dir")
	case c.SpoolDir == "":
		return nil, nil //nolint:nilnil // none is wanted
	}
	spool, err := httpidem.NewSpool(&httpidem.SpoolConfig{Dir: c.SpoolDir, Above: c.SpoolAbove, MaxBytes: c.SpoolBytes})
	if err != nil {
		return nil, fmt.Errorf("spool_dir: %w", err)
	}
	return spool, nil
}

func newStore(ctx caddy.Context, name string, cfg Store, values redisidem.Codec) (*store, error) {
	s := &store{pooled: name, metrics: promidem.New(nil), requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "redisidem_http_requests_total", Help: "Requests by result.",
	}, []string{"result"})}
	// The service outlives ctx, which ends with this configuration of Caddy.
	opening, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var err error
	if s.spool, err = cfg.openSpool(); err != nil {
		return nil, err
	}
	s.service, err = redisidem.Open(opening, cfg.Redis, &redisidem.Config{
		Namespace: cfg.Namespace, Timeout: duration(cfg.Timeout), Lease: duration(cfg.Lease), Retention: duration(cfg.Retention), MaxValueBytes: cfg.MaxValue,
		Codec: values, Durability: cfg.Durability, AutoPipeline: cfg.AutoPipeline, Observer: s.metrics, Logger: slog.New(currentLog{}),
	})
	if err != nil {
		return nil, err
	}
	s.metrics.Watch(s.service)
	if err := s.limit(&cfg); err != nil {
		return nil, errors.Join(err, s.service.Close(opening))
	}
	return s, nil
}

// limit makes the quota of each scope, if one is wanted.
func (s *store) limit(cfg *Store) error {
	switch {
	case cfg.ScopeInFlight < 0:
		return fmt.Errorf("scope_in_flight: must not be negative: %d", cfg.ScopeInFlight)
	case cfg.ScopeKeys < 0:
		return fmt.Errorf("scope_keys: must not be negative: %d", cfg.ScopeKeys)
	case cfg.ScopeInFlight == 0 && cfg.ScopeKeys == 0:
		return nil
	}
	var err error
	if s.quota, err = redisidem.NewQuota(s.service, redisidem.QuotaConfig{InFlight: cfg.ScopeInFlight, Stored: cfg.ScopeKeys}); err == nil {
		s.metrics.WatchQuota(s.quota)
	}
	return err
}

// limits returns the quota for the middleware, nil without a limit.
func (s *store) limits() httpidem.Quota {
	if s.quota == nil {
		return nil
	}
	return s.quota
}

// register adds the metrics to those of a configuration of Caddy, if another handler has not.
func (s *store) register(ctx caddy.Context) error {
	// The URL may have a password, so a digest distinguishes stores with one namespace.
	name := sha256.Sum256([]byte(s.pooled))
	labels := prometheus.Labels{"namespace": s.service.Config().Namespace, "store": hex.EncodeToString(name[:4])}
	registry := prometheus.WrapRegistererWith(labels, ctx.GetMetricsRegistry())
	for _, c := range []prometheus.Collector{s.metrics, s.requests} {
		err := registry.Register(c)
		if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !twice {
			return err
		}
	}
	return nil
}

// observe counts a request.
func (s *store) observe(_ context.Context, e httpidem.Event) {
	if !e.Late { // it was counted before
		s.requests.WithLabelValues(e.Result.String()).Inc()
	}
}

// release gives the store back. The last handler closes it.
func (s *store) release() error {
	_, err := stores.Delete(s.pooled)
	return err
}

// Destruct implements [caddy.Destructor]: it waits for the work in flight, gives back the shares in
// quotas and closes the connections.
func (s *store) Destruct() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.quota == nil {
		return s.service.Close(ctx)
	}
	return errors.Join(s.quota.Close(ctx), s.service.Close(ctx))
}

func duration(d caddy.Duration) time.Duration { return time.Duration(d) }
