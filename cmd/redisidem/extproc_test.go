package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	modes "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
)

// TestGatewayIsAnExternalProcessorOfEnvoy sends the messages of a request and of its retry to the
// program, as Envoy does.
func TestGatewayIsAnExternalProcessorOfEnvoy(t *testing.T) {
	t.Parallel()
	p := start(t, "", "--upstream", fromEnvoy, "--scope", "unscoped")
	connection, err := grpc.NewClient(strings.TrimPrefix(p.url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	}()
	client := extproc.NewExternalProcessorClient(connection)

	headers := func(pairs ...string) *extproc.HttpHeaders {
		m := &core.HeaderMap{}
		for i := 0; i < len(pairs); i += 2 {
			m.Headers = append(m.Headers, &core.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
		}
		return &extproc.HttpHeaders{Headers: m}
	}
	ask := func(stream extproc.ExternalProcessor_ProcessClient, m *extproc.ProcessingRequest) *extproc.ProcessingResponse {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
		out, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	request := &extproc.ProcessingRequest{
		Request: &extproc.ProcessingRequest_RequestHeaders{
			RequestHeaders: headers(":method", "POST", ":path", "/orders", ":authority", "api.example.com", "idempotency-key", "k"),
		},
		ProtocolConfig: &extproc.ProtocolConfiguration{RequestBodyMode: modes.ProcessingMode_BUFFERED, ResponseBodyMode: modes.ProcessingMode_BUFFERED},
	}
	body := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
		RequestBody: &extproc.HttpBody{Body: []byte("tea"), EndOfStream: true},
	}}
	for retry := range 2 {
		stream, err := client.Process(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if out := ask(stream, request); out.GetRequestHeaders() == nil {
			t.Fatalf("the answer to the headers is %v", out)
		}
		out := ask(stream, body)
		if retry == 1 {
			if now := out.GetImmediateResponse(); now.GetStatus().GetCode() != 201 || string(now.GetBody()) != "order 7" {
				t.Errorf("the retry got %v", out)
			}
			break
		}
		if out.GetRequestBody() == nil {
			t.Fatalf("the answer to the body is %v", out)
		}
		response := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{ResponseHeaders: headers(":status", "201")}}
		if out := ask(stream, response); out.GetResponseHeaders() == nil {
			t.Fatalf("the answer to the response's headers is %v", out)
		}
		response = &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseBody{
			ResponseBody: &extproc.HttpBody{Body: []byte("order 7"), EndOfStream: true},
		}}
		if out := ask(stream, response); out.GetResponseBody() == nil {
			t.Fatalf("the answer to the response's body is %v", out)
		}
	}
}

func TestSettingsThatEnvoyCannotFollowAreRefused(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		"defaults: {interrupted: ask, ask: \"/orders/{key}\"}":          "interrupted: must be refuse or run",
		"routes: [{match: /a, authorize: /check}]":                      "routes[0].authorize: must be none",
		"defaults: {stream: true}":                                      "stream: must be false",
		"defaults: {max_body: 67108864}":                                "max_body: must be at most 66060288",
		"defaults: {max_response: 67108864}":                            "max_response: must be at most 66060288",
		"spool_dir: /tmp":                                               "spool_dir: cannot be combined with the upstream envoy:",
		"scope: certificate\ntls_cert: c\ntls_key: k\ntls_client_ca: a": "scope: cannot be certificate",
	} {
		name := filepath.Join(t.TempDir(), "gateway.yaml")
		text := "upstream: 'envoy:'\n" + config + "\n"
		if !strings.Contains(config, "scope:") {
			text += "scope: unscoped\n"
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := parseGateway([]string{"gateway", "--redis", inMemory, "--config", name})
		if err == nil {
			_, err = c.assemble(slog.New(slog.DiscardHandler), gateway.NewMetrics())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, without %q", config, err, want)
		}
	}
}
