package redisidem_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// BenchmarkDo runs first executions and replays against a private redis-server, one caller and 256, plain and
// auto-pipelined. Both share the machine, so only the ratios within one run mean something.
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
				b.SetParallelism(callers / min(callers, 2))
				b.ResetTimer()
				each := func() {
					value := "replayed"
					if !mode.replay {
						value = strconv.FormatInt(n.Add(1), 10)
					}
					key, err := sc.Do(ctx, value, request, work)
					if err != nil || key.Replayed() != mode.replay {
						b.Error(key, err)
					}
				}
				if callers == 1 {
					for range b.N {
						each()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						each()
					}
				})
			})
		}
	}
}
