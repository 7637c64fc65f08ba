package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemclient"
)

// losesFirst is a network that loses the first answer.
type losesFirst struct{ sent atomic.Int64 }

func (l *losesFirst) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && l.sent.Add(1) == 1 {
		_ = res.Body.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return res, err
}

func TestLostAnswerChargesOnce(t *testing.T) {
	t.Parallel()
	for _, router := range []string{"http", "chi"} {
		t.Run(router, func(t *testing.T) {
			t.Parallel()
			svc, err := redisidem.Open(t.Context(), "redis://"+miniredis.RunT(t).Addr(), &redisidem.Config{Timeout: 5 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				if err := svc.Close(ctx); err != nil {
					t.Error(err)
				}
			})
			h, err := newHandler(svc, router)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(h)
			t.Cleanup(server.Close)
			network := &losesFirst{}
			transport, err := idemclient.NewTransport(network, nil)
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Transport: transport}
			send := func(method, token, body string) (status int, text string, header http.Header) {
				r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/charges", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+token)
				res, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = res.Body.Close() }()
				b, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				return res.StatusCode, strings.TrimSpace(string(b)), res.Header
			}
			status, text, header := send(http.MethodPost, "token-of-acme", `{"cents": 1200}`)
			if status != 201 || text != `{"charge":1}` || header.Get("Idempotency-Replayed") != "true" || network.sent.Load() != 2 {
				t.Errorf("%d %s %v after %d requests", status, text, header, network.sent.Load())
			}
			if status, text, _ := send(http.MethodPost, "token-of-globex", `{"cents": 1200}`); status != 201 || text != `{"charge":2}` {
				t.Errorf("the next charge: %d %s", status, text)
			}
			if status, _, _ := send(http.MethodPost, "unknown-token", `{"cents": 1200}`); status != 401 {
				t.Errorf("a charge with an unknown token: %d", status)
			}
			if status, _, _ := send(http.MethodPost, "token-of-acme", `{}`); status != 400 {
				t.Errorf("a bad charge: %d", status)
			}
			if _, text, _ := send(http.MethodGet, "token-of-acme", ""); text != "2 charges" {
				t.Errorf("there were %s", text)
			}
		})
	}
	if _, err := newHandler(nil, "http"); err == nil {
		t.Error("no service is no error")
	}
}
