package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
)

func TestMain(m *testing.M) { leak.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// TestTelemetryIsExportedByTheUsualVariables has a collector that takes OTLP over HTTP.
func TestTelemetryIsExportedByTheUsualVariables(t *testing.T) {
	var mu sync.Mutex
	got := make(map[string][]byte)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got[r.URL.Path] = append(got[r.URL.Path], body...)
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
	t.Setenv("OTEL_SERVICE_NAME", "orders-gateway")

	ctx := context.Background()
	tel, err := Start(ctx, quiet)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := redisidem.OpenUnchecked("redis://"+miniredis.RunT(t).Addr(), &redisidem.Config{Observer: tel.Observer, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := tel.Watch(svc); err != nil {
		t.Fatal(err)
	}
	_, err = svc.Scope("a").Do(ctx, "k", redisidem.Request{Method: "POST"}, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		return redisidem.Finish(redisidem.Response{Code: 204}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := tel.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for path, text := range map[string]string{"/v1/traces": "redisidem stage started", "/v1/metrics": "redisidem.operation.duration"} {
		if !bytes.Contains(got[path], []byte(text)) || !bytes.Contains(got[path], []byte("orders-gateway")) {
			t.Errorf("%s got %q", path, got[path])
		}
	}
}

func TestTelemetryIsOffWithoutVariables(t *testing.T) {
	for name, variables := range map[string]map[string]string{
		"none":     {},
		"disabled": {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"},
		"by name":  {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range variables {
				t.Setenv(variable, value)
			}
			tel, err := Start(context.Background(), quiet)
			if err != nil || tel.Traces != nil || tel.Observer != nil {
				t.Fatalf("%+v %v", tel, err)
			}
			if err := tel.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVariableThatCannotBeUnderstoodIsNamed(t *testing.T) {
	for _, variable := range []string{"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, "carrier-pigeon")
			if _, err := Start(context.Background(), quiet); err == nil || !strings.Contains(err.Error(), variable) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
