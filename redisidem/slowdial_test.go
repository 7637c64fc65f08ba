package redisidem_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
)

// slowTLS puts TLS in front of a server: each handshake takes some time, and what follows takes
// none. It returns the address.
func slowTLS(t *testing.T, ca *authority, upstream string, handshake time.Duration) string {
	t.Helper()
	ca.issue("server", false)
	certificate, err := tls.LoadX509KeyPair(ca.file("server.pem"), ca.file("server.key"))
	mustBe(t, err, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	mustBe(t, err, nil)
	stopped, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	t.Cleanup(func() {
		stop()
		_ = listener.Close()
		wg.Wait()
	})
	serve := func(raw net.Conn) {
		defer func() { _ = raw.Close() }()
		timer := time.NewTimer(handshake)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-stopped.Done():
			return
		}
		client := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
		if client.HandshakeContext(stopped) != nil {
			return
		}
		server, err := net.Dial("tcp", upstream)
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		cut := context.AfterFunc(stopped, func() { _, _ = raw.Close(), server.Close() })
		defer cut()
		wg.Go(func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		})
		_, _ = io.Copy(client, server)
	}
	wg.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(raw) })
		}
	})
	return listener.Addr().String()
}

func TestSlowHandshakeIsOverBeforeTheWorkBegins(t *testing.T) {
	t.Parallel()
	for name, pipelined := range map[string]bool{"pipelined": true, "plain": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t, t.TempDir(), "ca")
			addr := slowTLS(t, ca, miniredis.RunT(t).Addr(), 700*time.Millisecond)
			for round := range 3 {
				svc, err := redisidem.OpenUnchecked("rediss://"+addr+query("dial_timeout", "3s", "tls_ca", ca.file("ca.pem")),
					&redisidem.Config{Timeout: 500 * time.Millisecond, AutoPipeline: pipelined})
				mustBe(t, err, nil)
				ran := false
				began := time.Now()
				for call := 0; !ran && call < 20; call++ {
					key, err := svc.Scope("a").Do(ctx, string(rune('a'+round)), request, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
						ran = true
						t.Logf("round %d: call %d runs after %v", round, call, time.Since(began))
						return redisidem.Finish(redisidem.JSON(200, "done")), nil
					})
					switch {
					case ran && err != nil:
						t.Errorf("round %d: the work was done, and its commit ends with %v", round, err)
					case ran && !key.Finished():
						t.Errorf("round %d: the key is %+v", round, key)
					case !ran && !errors.Is(err, redisidem.ErrLocked): // by a claim that was given up, and is being given back
						mustBe(t, err, redisidem.ErrUnavailable)
					}
					if !ran {
						time.Sleep(50 * time.Millisecond)
					}
				}
				if !ran {
					t.Errorf("round %d: no call ran", round)
				}
				mustBe(t, svc.Close(ctx), nil)
			}
		})
	}
}
