//go:build unix

package redistest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/internal/redistest"
	"github.com/redisidem/redisidem/internal/redistest/rediscase"
)

// bench is a server with a proxy in front of it.
type bench struct {
	*testing.T
	server *redistest.Server
	proxy  *redistest.Proxy
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel()
	s := rediscase.Server(t)
	return &bench{t, s, rediscase.Proxy(t, s.Addr())}
}

// holds checks the value of a key on the server.
func (b *bench) holds(key, want string) {
	b.Helper()
	got, err := client(b.T, b.server).Get(context.Background(), key).Result()
	if want == "" && errors.Is(err, redis.Nil) {
		return
	}
	if got != want || err != nil {
		b.Errorf("%s is %q, %v; want %q", key, got, err, want)
	}
}

func TestProxyPassesPipelinesAndCounts(t *testing.T) {
	b := newBench(t)
	c := dial(t, b.proxy)
	c.ask("SET k v", "GET k", "LRANGE k 0 1").expect("+OK", "$1", "v",
		"-WRONGTYPE Operation against a key holding the wrong kind of value")
	c.send("PING\r\n") // an inline command, as typed by hand
	c.expect("+PONG")
	if n := b.proxy.Requests(); n != 4 {
		t.Errorf("%d requests counted", n)
	}
}

func TestProxyPassesBigValuesAndBothProtocols(t *testing.T) {
	b := newBench(t)
	ctx := context.Background()
	for _, protocol := range []int{2, 3} {
		rdb := redis.NewClient(&redis.Options{Addr: b.proxy.Addr(), Protocol: protocol})
		big := strings.Repeat("\r\n$5\r\n", 1<<18)
		must(t, rdb.HSet(ctx, "h", "big", big, "null", "").Err())
		if all := rdb.HGetAll(ctx, "h").Val(); all["big"] != big || len(all) != 2 {
			t.Error("the value is not what it was")
		}
		must(t, rdb.Close())
	}
}

func TestLoseReply(t *testing.T) {
	b := newBench(t)
	struck := b.proxy.Once(redistest.LoseReply, "mark")
	c := dial(t, b.proxy).ask("INCR a", "INCR mark", "INCR c")
	c.expect(":1").expectEnd()
	await(t, struck)
	b.holds("a", "1")
	b.holds("mark", "1")
	b.holds("c", "")
	dial(t, b.proxy).ask("INCR mark").expect(":2") // the fault was for one request
}

func TestLoseReplyWaitsForTheServer(t *testing.T) {
	b := newBench(t)
	struck := b.proxy.Once(redistest.LoseReply, "mark")
	must(t, b.server.Pause())
	c := dial(t, b.proxy).ask("INCR mark").expectSilence()
	must(t, b.server.Resume())
	c.expectEnd()
	await(t, struck)
	b.holds("mark", "1")
}

func TestLoseRequest(t *testing.T) {
	b := newBench(t)
	struck := b.proxy.Once(redistest.LoseRequest, "mark")
	c := dial(t, b.proxy).ask("INCR a", "INCR b", "INCR mark", "INCR c")
	c.expect(":1", ":1").expectEnd()
	await(t, struck)
	b.holds("mark", "")
	b.holds("c", "")

	await(t, func() <-chan struct{} { // the only request on its connection
		struck := b.proxy.Once(redistest.LoseRequest, "mark")
		dial(t, b.proxy).ask("INCR mark").expectEnd()
		return struck
	}())
	b.holds("mark", "")
	if n := b.proxy.Requests(); n != 2 {
		t.Errorf("%d requests counted", n)
	}
}

func TestMuteReply(t *testing.T) {
	b := newBench(t)
	struck := b.proxy.Once(redistest.MuteReply, "mark")
	c := dial(t, b.proxy).ask("INCR a", "INCR mark", "INCR c").expect(":1")
	await(t, struck)
	c.expectSilence()
	b.holds("mark", "1")
	eventually(t, "the request behind it is served", func() bool {
		return client(t, b.server).Exists(context.Background(), "c").Val() == 1
	})
}

func TestHoldRequest(t *testing.T) {
	b := newBench(t)
	struck := b.proxy.Once(redistest.HoldRequest, "mark")
	c := dial(t, b.proxy).ask("INCR a", "INCR mark", "INCR c").expect(":1").expectSilence()
	await(t, struck)
	dial(t, b.proxy).ask("SET mark 10").expect("+OK") // other requests pass
	must(t, c.Close())
	must(t, b.proxy.Resume())
	eventually(t, "the late requests are served", func() bool {
		return client(t, b.server).Exists(context.Background(), "c").Val() == 1
	})
	b.holds("mark", "11")
}

func TestDuplicate(t *testing.T) {
	b := newBench(t)
	struck := b.proxy.Once(redistest.Duplicate, "mark")
	dial(t, b.proxy).ask("INCR a", "INCR mark", "INCR c").expect(":1", ":1", ":1").ask("INCR c").expect(":2")
	await(t, struck)
	b.holds("mark", "2")
}

func TestFaultsStrikeInTurn(t *testing.T) {
	b := newBench(t)
	struck := []<-chan struct{}{
		b.proxy.Once(redistest.Duplicate, "\r\nmark\r\n"), b.proxy.Once(redistest.LoseRequest, "mark"),
		b.proxy.Once(redistest.LoseReply, ""),
	}
	c := dial(t, b.proxy).ask("INCR mark").expect(":1")
	c.ask("INCR mark").expectEnd()
	dial(t, b.proxy).ask("PING").expectEnd()
	dial(t, b.proxy).ask("GET mark").expect("$1", "2")
	for _, one := range struck {
		await(t, one)
	}
}

func TestFaultFindsRequestInPieces(t *testing.T) {
	b := newBench(t)
	b.proxy.Once(redistest.LoseReply, "\r\nmark\r\n")
	c := dial(t, b.proxy)
	for _, piece := range strings.SplitAfter(wire("INCR a", "INCR mark"), "") {
		c.send(piece)
		time.Sleep(time.Millisecond) // so that the pieces are sent separately
	}
	c.expect(":1").expectEnd()
	b.holds("mark", "1")
}

func TestStallReplies(t *testing.T) {
	b := newBench(t)
	c := dial(t, b.proxy).ask("PING").expect("+PONG")
	b.proxy.StallReplies()
	c.ask("INCR n").expectSilence()
	fresh := dial(t, b.proxy).ask("INCR n").expectSilence()
	b.holds("n", "2")
	must(t, b.proxy.Resume())
	c.expect(":1")
	fresh.expect(":2")
}

func TestStallRequests(t *testing.T) {
	b := newBench(t)
	gone, stays := dial(t, b.proxy), dial(t, b.proxy)
	b.proxy.StallRequests()
	gone.ask("INCR a")
	must(t, gone.Close())
	stays.ask("INCR b").expectSilence()
	b.holds("a", "")
	b.holds("b", "")
	must(t, b.proxy.Resume())
	stays.expect(":1")
	eventually(t, "the request of the client that has gone is served", func() bool {
		return client(t, b.server).Get(context.Background(), "a").Val() == "1"
	})
}

func TestDelayIsForEachAndNotForAll(t *testing.T) {
	b := newBench(t)
	const delay = 50 * time.Millisecond
	b.proxy.Delay(delay)
	c := dial(t, b.proxy)
	began := time.Now()
	const requests = 100
	for range requests {
		c.ask("PING")
	}
	for range requests {
		c.expect("+PONG")
	}
	if took := time.Since(began); took < 2*delay || took > requests*delay/2 {
		t.Errorf("took %v", took)
	}
	must(t, b.proxy.Resume())
	least := time.Hour // the machine may be busy with other tests
	for i := 0; i < requests && least >= 2*delay; i++ {
		began = time.Now()
		c.ask("PING").expect("+PONG")
		least = min(least, time.Since(began))
	}
	if least >= 2*delay {
		t.Errorf("without delay it took %v", least)
	}
}

func TestRefuse(t *testing.T) {
	b := newBench(t)
	c := dial(t, b.proxy).ask("PING").expect("+PONG")
	b.proxy.Refuse()
	c.expectEnd()
	if _, err := net.Dial("tcp", b.proxy.Addr()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v", err)
	}
	must(t, b.proxy.Resume())
	dial(t, b.proxy).ask("PING").expect("+PONG")
	b.proxy.Stop()
	if err := b.proxy.Resume(); err == nil {
		t.Error("resumed after Stop")
	}
}

func TestProxyTurnsClientsAwayWithoutServer(t *testing.T) {
	b := newBench(t)
	c := dial(t, b.proxy).ask("PING").expect("+PONG")
	b.server.Kill()
	c.expectEnd()
	dial(t, b.proxy).expectEnd()
	must(t, b.server.Restart())
	dial(t, b.proxy).ask("PING").expect("+PONG")
}

func TestFaultsHaveNames(t *testing.T) {
	t.Parallel()
	for f := redistest.LoseRequest; f <= redistest.Duplicate; f++ {
		if name := f.String(); name == "" || name == "invalid" {
			t.Errorf("fault %d is called %q", f, name)
		}
	}
	if name := (redistest.Duplicate + 1).String(); name != "invalid" {
		t.Errorf("no fault is called %q", name)
	}
}

func TestBlackHoleSwallows(t *testing.T) {
	t.Parallel()
	hole := rediscase.BlackHole(t)
	for range 3 {
		if _, err := net.DialTimeout("tcp", hole.Addr(), soon); !os.IsTimeout(err) {
			t.Fatalf("dial: %v", err)
		}
	}
	hole.Stop()
	if _, err := net.DialTimeout("tcp", hole.Addr(), patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after Stop: %v", err)
	}
}
