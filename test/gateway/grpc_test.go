//go:build unix

package gateway

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/redisidem/redisidem/internal/redistest/rediscase"
	"github.com/redisidem/redisidem/internal/tcpproxy"
)

// grpcRetries lets grpc-go repeat calls whose answer was lost.
const grpcRetries = `{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.02s", "maxBackoff": "0.1s",
	"backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// grpcConfig lets retries wait for the call in flight, since grpc-go does not repeat a call that
// was answered with 409.
const grpcConfig = `
upstream: %s
scope: header:x-tenant
lease: 1s
defaults: {key: required, wait: 20s}
`

// payments is a service of gRPC. It counts its calls, and answers with an error if the name of the
// call says so.
type payments struct {
	grpc_health_v1.UnimplementedHealthServer
	calls  atomic.Int64
	during atomic.Pointer[func()] // if not nil, it is called once during a call
}

func (p *payments) Check(_ context.Context, r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	n := p.calls.Add(1)
	if f := p.during.Swap(nil); f != nil {
		(*f)()
	}
	if r.Service == "declined" {
		return nil, status.Errorf(codes.FailedPrecondition, "card declined, call %d", n)
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

// TestGRPCClientsRetryThroughTheGateway uses grpc-go with its own retries, over TLS and over HTTP/2
// without TLS on both sides. Answers are lost.
func TestGRPCClientsRetryThroughTheGateway(t *testing.T) {
	t.Parallel()
	for _, withTLS := range []bool{true, false} {
		t.Run(fmt.Sprintf("TLS=%v", withTLS), func(t *testing.T) {
			t.Parallel()
			service := &payments{}
			server := grpc.NewServer()
			grpc_health_v1.RegisterHealthServer(server, service)
			config, folder := grpcConfig, t.TempDir()
			var address string
			dial := []grpc.DialOption{grpc.WithDefaultServiceConfig(grpcRetries)}
			if withTLS {
				up := httptest.NewUnstartedServer(server)
				up.EnableHTTP2 = true
				up.StartTLS()
				t.Cleanup(up.Close)
				address = up.URL
				ca := newAuthority(t)
				ca.issue(t, filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"))
				write(t, filepath.Join(folder, "upstream.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: up.Certificate().Raw}))
				config += fmt.Sprintf("tls_cert: %[1]s/cert.pem\ntls_key: %[1]s/key.pem\nupstream_ca: %[1]s/upstream.pem\n", folder)
				dial = append(dial, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.pool})))
			} else {
				var listening net.ListenConfig
				listener, err := listening.Listen(t.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				go func() { _ = server.Serve(listener) }() // until Stop
				t.Cleanup(server.Stop)
				address = "h2c://" + listener.Addr().String()
				dial = append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()))
			}
			file := filepath.Join(folder, "gateway.yaml")
			write(t, file, fmt.Appendf(nil, config, address))
			p := start(t, rediscase.Server(t).Addr(), file)
			_, host, _ := strings.Cut(p.url, "://")
			proxy := tcpproxy.Start(t, host)
			conn, err := grpc.NewClient(proxy.Addr(), dial...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			checkGRPC(t, service, proxy, grpc_health_v1.NewHealthClient(conn))
		})
	}
}

func checkGRPC(t *testing.T, service *payments, proxy *tcpproxy.Proxy, client grpc_health_v1.HealthClient) {
	t.Helper()
	lose := func() { proxy.Lose(1) }
	cut := proxy.Cut
	for _, each := range []struct {
		name, key string
		during    *func()
		replayed  bool
		code      codes.Code
		calls     int64
	}{
		{name: "first", key: "a", calls: 1},
		{name: "first", key: "a", replayed: true, calls: 1},
		{name: "lost", key: "b", during: &lose, replayed: true, calls: 2},
		{name: "cut", key: "c", during: &cut, replayed: true, calls: 3},
		{name: "declined", key: "d", code: codes.FailedPrecondition, calls: 4},
		{name: "another", key: "a", code: codes.Unknown, calls: 4}, // 422
	} {
		service.during.Store(each.during)
		var header metadata.MD
		ctx := metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", fmt.Sprintf("%q", each.key), "x-tenant", "acme")
		answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: each.name}, grpc.Header(&header))
		if status.Code(err) != each.code || err == nil && answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("%s: %v, %v", each.name, answer, err)
		}
		if got := header.Get("idempotency-replayed"); (len(got) == 1) != each.replayed {
			t.Errorf("%s: Idempotency-Replayed is %q", each.name, got)
		}
		if n := service.calls.Load(); n != each.calls {
			t.Errorf("%s: there were %d calls, want %d", each.name, n, each.calls)
		}
	}
	if proxy.Lost() != 1 {
		t.Errorf("%d answers were lost", proxy.Lost())
	}
}
