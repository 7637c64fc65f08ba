package redisidem_test

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// BenchmarkDo runs first executions and replays against a private redis-server, with one caller and
// with 256, plain and auto-pipelined. Both share the machine, so only ratios within one run are
// meaningful.
func BenchmarkDo(b *testing.B) {
	for _, mode := range []struct {
		name   string
		auto   bool
		replay bool
	}{{"plain/first", false, false}, {"auto/first", true, false}, {"plain/replay", false, true}, {"auto/replay", true, true}} {
		for _, callers := range []int{1, 256} {
			b.Run(mode.name+"/"+strconv.Itoa(callers), func(b *testing.B) {
				needServer(b)
				client, err := standalone.client(3)
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = client.Close() }()
				svc, err := redisidem.New(client, &redisidem.Config{
					Namespace: freshNamespace(), AutoPipeline: mode.auto, Timeout: 10 * time.Second,
				})
				if err != nil {
					b.Fatal(err)
				}
				sc := svc.Scope("bench")
				work := finish("done")
				if _, err := sc.Do(ctx, "replayed", request, work); err != nil {
					b.Fatal(err)
				}
				var n atomic.Int64
				b.ReportAllocs()
				b.ResetTimer()
				bring(b, callers, func() {
					value := "replayed"
					if !mode.replay {
						value = strconv.FormatInt(n.Add(1), 10)
					}
					key, err := sc.Do(ctx, value, request, work)
					if err != nil || key.Replayed() != mode.replay {
						b.Error(key, err)
					}
				})
			})
		}
	}
}

// bring runs an operation b.N times from a number of callers, whatever the number of processors.
// RunParallel starts a multiple of these.
func bring(b *testing.B, callers int, op func()) {
	var begun atomic.Int64
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				op()
			}
		})
	}
	all.Wait()
}

// BenchmarkReplayFromCopy answers retries of a finished key from the copy in the process.
func BenchmarkReplayFromCopy(b *testing.B) {
	sc := keepingCopies(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if key, err := sc.Do(ctx, "k", rawRequest, never(b)); err != nil || !key.Replayed() {
				b.Error(key, err)
			}
		}
	})
}

var rawRequest = redisidem.Request{Method: "POST", Path: "/carts/1/complete", Params: []byte(`{"cart":1}`)}

// keepingCopies makes a scope whose key "k" is answered from a copy.
func keepingCopies(tb testing.TB) *redisidem.Scope {
	tb.Helper()
	client, err := embedded.client(3)
	if err != nil {
		tb.Fatal(err)
	}
	svc, err := redisidem.New(client, &redisidem.Config{Namespace: freshNamespace(), CacheBytes: 1 << 20, Timeout: 10 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(svc.Close(ctx), client.Close()); err != nil {
			tb.Error(err)
		}
	})
	sc := svc.Scope("bench")
	if _, err := sc.Do(ctx, "k", rawRequest, finish("done")); err != nil {
		tb.Fatal(err)
	}
	// Copies from before the subscription are dropped.
	for range 2000 {
		if len(client.PubSubChannels(ctx, svc.Config().Namespace+":deleted").Val()) > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
	if _, err := sc.Do(ctx, "k", rawRequest, never(tb)); err != nil {
		tb.Fatal(err)
	}
	return sc
}

// BenchmarkInitializeRequest replays a finished key through a plain client, beside the cost of
// HGETALL on its record.
func BenchmarkInitializeRequest(b *testing.B) {
	needServer(b)
	client, err := standalone.client(3)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	namespace := freshNamespace()
	svc, err := redisidem.New(client, &redisidem.Config{Namespace: namespace, Timeout: 10 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	sc := svc.Scope("bench")
	if _, err := sc.Do(ctx, "k", rawRequest, finish("done")); err != nil {
		b.Fatal(err)
	}
	records, err := client.Keys(ctx, namespace+":*").Result()
	if err != nil || len(records) != 1 {
		b.Fatal(records, err)
	}
	for _, what := range []struct {
		name string
		op   func() error
	}{
		{"replay", func() error {
			key, err := sc.InitializeRequest(ctx, "k", rawRequest)
			if err == nil && !key.Replayed() {
				err = errors.New("a finished key is not replayed")
			}
			return err
		}},
		{"hgetall", func() error { return client.HGetAll(ctx, records[0]).Err() }},
	} {
		b.Run(what.name, func(b *testing.B) {
			b.ReportAllocs()
			bring(b, 64, func() {
				if err := what.op(); err != nil {
					b.Error(err)
				}
			})
		})
	}
}
