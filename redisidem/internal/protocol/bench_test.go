//go:build unix

package protocol

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// BenchmarkClient shows what parts of a lifecycle cost this process, with 256 auto-pipelined
// callers: two bare commands, the two calls of a lifecycle, and the same with redislock around the
// first one. The rest of the library is not in it.
func BenchmarkClient(b *testing.B) {
	rdb := redis.NewClient(&redis.Options{Addr: rediscase.Server(b).Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	c, err := New(&Options{
		Redis: rdb, Namespace: "ns", Timeout: 10 * time.Second, Lease: 10 * time.Second, Retention: time.Hour,
		Owner: "a-host/12345", AutoPipeline: true,
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	body, params := bytes.Repeat([]byte("x"), 200), bytes.Repeat([]byte("p"), 70)
	lifecycle := func(value string, claim func(*Claim, *Claimant) (Reply, error)) error {
		asked := Claim{
			ID: Identify("ns", "bench", value, DigestOf("bench", value)), Fingerprint: "1:" + string(body[:43]), Creates: true,
			New: NewRecord{Method: "POST", Path: "/orders", Params: params},
		}
		by := Claimant{Token: NewToken()}
		r, err := claim(&asked, &by)
		if err != nil {
			return err
		}
		granted, err := r.Granted()
		if err != nil {
			return err
		}
		r, err = c.Run(ctx, c.NewCommit(&Commit{
			ID: asked.ID, Token: by.Token, Fence: granted.Fence, Attempt: 1, From: "started", Journal: JournalShort,
			Outcome: Outcome{RecoveryPoint: "finished", HasResponse: true, Response: Response{Code: 200, Body: body}},
		}))
		if err == nil && r.Status != StatusOK {
			err = r.Unexpected()
		}
		return err
	}
	for _, part := range []struct {
		name string
		run  func(value string) error
	}{
		{"bare", func(value string) error {
			err := c.send(ctx, redis.NewStatusCmd(ctx, "set", value, "x", "px", 10000, "nx"))
			if err != nil {
				return err
			}
			return c.send(ctx, redis.NewStatusCmd(ctx, "set", value, body, "px", 3600000))
		}},
		{"calls", func(value string) error {
			return lifecycle(value, func(claim *Claim, by *Claimant) (Reply, error) { return c.Run(ctx, c.claimCall(claim, by.Token)) })
		}},
		{"redislock", func(value string) error {
			return lifecycle(value, func(claim *Claim, by *Claimant) (Reply, error) { return c.Claim(ctx, claim, by) })
		}},
	} {
		b.Run(part.name, func(b *testing.B) {
			b.ReportAllocs()
			rdb.FlushDB(ctx)
			before := processorTime(b)
			var next atomic.Int64
			var callers sync.WaitGroup
			for range 256 {
				callers.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						if err := part.run(strconv.FormatInt(n, 10)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			callers.Wait()
			b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime returns the processor time that this process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
