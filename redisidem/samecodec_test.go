package redisidem_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/codec"
)

// TestResolveRefusesAnotherCodecThanThePrograms resolves keys with each codec in namespaces whose
// programs have each. What shows the programs' codec is a value of the key, its last failure, or
// only another key's record. A refused resolve changes nothing.
func TestResolveRefusesAnotherCodecThanThePrograms(t *testing.T) {
	ring := func(secret string) redisidem.Codec {
		values, err := codec.NewEncryption(codec.EncryptionKey{ID: "k", Secret: bytes.Repeat([]byte(secret), 32)})
		mustBe(t, err, nil)
		return values
	}
	compression, err := codec.NewCompression(1)
	mustBe(t, err, nil)
	compressed, err := codec.Chain(compression, ring("1"))
	mustBe(t, err, nil)
	codecs := map[string]redisidem.Codec{
		"none": nil, "key 1": ring("1"), "key 2": ring("2"), "compression": compression, "compression and key 1": compressed,
	}
	withoutParams := redisidem.Request{Method: "POST", Path: "/"}
	compare := func(t *testing.T, service func(func(*redisidem.Config)) *redisidem.Service, shown ...string) {
		t.Helper()
		for programs, theirs := range codecs {
			for operator, ours := range codecs {
				if programs == "compression and key 1" && operator == "key 1" {
					continue // what it decodes differs by a letter before it, which says nothing
				}
				for _, shows := range shown {
					name := fmt.Sprintf("programs have %s, the operator %s, %s shows it", programs, operator, shows)
					namespace := freshNamespace()
					with := func(values redisidem.Codec) *redisidem.Service {
						return service(func(c *redisidem.Config) { c.Namespace, c.Codec = namespace, values })
					}
					svc := with(theirs)
					var err error
					switch shows {
					case "params":
						_, err = svc.Scope("a").InitializeRequest(ctx, "k", redisidem.Request{Method: "POST", Path: "/", Params: []byte("secret")})
					case "failure":
						_, _ = svc.Scope("a").Do(ctx, "k", withoutParams, fails(errStage))
					case "other":
						if _, err = svc.Scope("a").InitializeRequest(ctx, "k", withoutParams); err == nil {
							_, err = svc.Scope("a").Do(ctx, "other", withoutParams, finish("done"))
						}
					}
					mustBe(t, err, nil)
					in := redisidem.NewInspector(with(ours))
					info, err := in.Get(ctx, "a", "k")
					mustBe(t, err, nil)
					err = in.Resolve(ctx, info, redisidem.Finish(redisidem.JSON(201, "by hand")), act)
					key, readErr := svc.Scope("a").Retrieve(ctx, "k")
					if readErr != nil {
						t.Fatalf("%s: the programs read %v; resolve returned %v", name, readErr, err)
					}
					if programs == operator {
						if err != nil || !key.Finished() {
							t.Errorf("%s: %v", name, err)
						}
						continue
					}
					mustBeInvalid(t, err, "Config.Codec", "not that of the programs")
					if key.Finished() {
						t.Errorf("%s: the key is finished", name)
					}
				}
			}
		}
	}
	onPlainServers(t, func(t *testing.T, e *env) {
		compare(t, func(set func(*redisidem.Config)) *redisidem.Service { return e.service(set) }, "params", "failure")
	})
	// A sample of records is bounded, and other tests have theirs on the servers above.
	t.Run("alone", func(t *testing.T) {
		client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
		defer func() { mustBe(t, client.Close(), nil) }()
		compare(t, func(set func(*redisidem.Config)) *redisidem.Service {
			cfg := redisidem.Config{Timeout: 20 * time.Second} // the machine may be busy
			set(&cfg)
			svc, err := redisidem.New(client, &cfg)
			mustBe(t, err, nil)
			return svc
		}, "other")
	})
}

// TestResolveWhereNothingIsEncodedYet has no value in the namespace, and one that was stored before
// a codec was introduced.
func TestResolveWhereNothingIsEncodedYet(t *testing.T) {
	values, err := codec.NewEncryption(codec.EncryptionKey{ID: "k", Secret: bytes.Repeat([]byte("1"), 32)})
	mustBe(t, err, nil)
	onPlainServers(t, func(t *testing.T, e *env) {
		for _, params := range []string{"", "earlier"} {
			namespace := freshNamespace()
			service := func(values redisidem.Codec) *redisidem.Service {
				return e.service(func(c *redisidem.Config) { c.Namespace, c.Codec = namespace, values })
			}
			request := redisidem.Request{Method: "POST", Path: "/", Params: []byte(params)}
			_, err := service(nil).Scope("a").InitializeRequest(ctx, "k", request)
			mustBe(t, err, nil)
			in := redisidem.NewInspector(service(codec.Optional(values)))
			info, err := in.Get(ctx, "a", "k")
			mustBe(t, err, nil)
			mustBe(t, in.Resolve(ctx, info, redisidem.Finish(redisidem.JSON(201, strings.Repeat("x", 100))), act), nil)
		}
	})
}
