package faultnet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redisidem/redisidem/lua"
)

// echoServer dials connections that answer each request with its last word.
func echoServer(t *testing.T) DialFunc {
	return func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		t.Cleanup(func() { _ = server.Close() })
		go func() {
			r := bufio.NewReader(server)
			for {
				var count, size int
				if _, err := fmt.Fscanf(r, "*%d\r\n", &count); err != nil {
					return
				}
				var word []byte
				for range count {
					if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
						return
					}
					word = make([]byte, size+2)
					if _, err := io.ReadFull(r, word); err != nil {
						return
					}
				}
				if _, err := server.Write(append([]byte("+"), word...)); err != nil {
					return
				}
			}
		}()
		return client, nil
	}
}

func request(words ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return []byte(b.String())
}

// commit is a call of the commit script whose reply echoes its nonce.
func commit(nonce string) []byte {
	return request("evalsha", lua.Commit.SHA, "1", "key", nonce)
}

func dial(t *testing.T, n *Network) net.Conn {
	t.Helper()
	c, err := n.Wrap(echoServer(t))(t.Context(), "tcp", "server")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// exchange sends a request and returns the reply. It waits at most a second.
func exchange(c net.Conn, b []byte) (string, error) {
	if _, err := c.Write(b); err != nil {
		return "", err
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	reply := make([]byte, 100)
	size, err := c.Read(reply)
	return strings.TrimSpace(string(reply[:size])), err
}

func mustExchange(t *testing.T, c net.Conn) {
	t.Helper()
	if reply, err := exchange(c, request("echo", "hello")); reply != "+hello" || err != nil {
		t.Fatalf("the reply is %q, %v", reply, err)
	}
}

func TestOutages(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode Mode
		want error // of a connection during the outage
	}{
		{Refuse, syscall.ECONNREFUSED},
		{Hang, context.DeadlineExceeded},
		{DropReplies, context.DeadlineExceeded},
	} {
		n := &Network{}
		before := dial(t, n)
		mustExchange(t, before)
		n.Set(test.mode)
		during := dial(t, n)
		for _, c := range []net.Conn{before, during} {
			_, err := exchange(c, request("echo", "hello"))
			timeout, _ := errors.AsType[net.Error](err)
			if !errors.Is(err, test.want) && (timeout == nil || !timeout.Timeout()) {
				t.Errorf("mode %d: the error is %v, want %v", test.mode, err, test.want)
			}
		}
		n.Set(Normal)
		for _, c := range []net.Conn{before, during} {
			if _, err := exchange(c, request("echo", "hello")); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("mode %d: after the outage the error is %v", test.mode, err)
			}
		}
		mustExchange(t, dial(t, n))
	}
}

func TestDropRepliesPassesTheHandshake(t *testing.T) {
	t.Parallel()
	n := &Network{}
	n.Set(DropReplies)
	if reply, err := exchange(dial(t, n), request("HELLO", "3")); reply != "+3" || err != nil {
		t.Errorf("the reply to HELLO is %q, %v", reply, err)
	}
}

func TestRefuseWith(t *testing.T) {
	t.Parallel()
	killed := errors.New("killed")
	n := &Network{}
	c := dial(t, n)
	n.RefuseWith(killed)
	if _, err := exchange(c, request("PING")); !errors.Is(err, killed) {
		t.Errorf("the error is %v", err)
	}
}

func TestFailNext(t *testing.T) {
	t.Parallel()
	for _, f := range []Fault{LoseRequest, LoseReply} {
		n := &Network{}
		sent := 0
		n.BeforeWrite = func([]byte) { sent++ }
		c := dial(t, n)
		struck := false
		n.FailNext(lua.Commit, f, func() { struck = true })
		mustExchange(t, c) // other requests are not affected
		if !n.Pending() || struck {
			t.Errorf("fault %d happened to another request", f)
		}
		if _, err := exchange(c, commit("nonce-1")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("fault %d: the error is %v", f, err)
		}
		if n.Pending() || !struck {
			t.Errorf("fault %d did not happen", f)
		}
		if reply, err := exchange(dial(t, n), commit("nonce-2")); reply != "+nonce-2" || err != nil {
			t.Errorf("after fault %d the reply is %q, %v", f, reply, err)
		}
		if sent != 3 {
			t.Errorf("BeforeWrite was called %d times, want 3", sent)
		}
	}
}

func TestOnCallSeesRequestsInPieces(t *testing.T) {
	t.Parallel()
	var calls []string
	n := &Network{OnCall: func(s *lua.Script) (Fault, func()) {
		calls = append(calls, s.Name)
		return NoFault, nil
	}}
	c := dial(t, n)
	b := commit("nonce")
	if _, err := c.Write(b[:10]); err != nil {
		t.Fatal(err)
	}
	if reply, err := exchange(c, b[10:]); reply != "+nonce" || err != nil || len(calls) != 1 {
		t.Errorf("the reply is %q, %v, after the calls %q", reply, err, calls)
	}
}
