package main

import (
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
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
	request := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestHeaders{
		RequestHeaders: headers(":method", "POST", ":path", "/orders", ":authority", "api.example.com", "idempotency-key", "k"),
	}}
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
