package extproc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	modes "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/redisidem/redisidem/cmd/redisidem/internal/gateway"
	"github.com/redisidem/redisidem/internal/leak"
	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func TestMain(m *testing.M) { leak.Main(m) }

// envoy plays Envoy's side of the protocol, as the documentation of its filter describes it, with
// bodies in the buffered mode.
type envoy struct {
	t      *testing.T
	client extproc.ExternalProcessorClient
	log    *lockedBuffer
	runs   atomic.Int64 // requests that the upstream got
	// deaf ignores changes of the mode, as Envoy does without allow_mode_override.
	deaf bool
	// hides keeps the trailers of requests from the processor.
	hides bool
	// upstream answers a request. Without a status the connection of the client breaks meanwhile.
	upstream func(*message) *message
	messages atomic.Int64 // from the processor
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// message is a request or a response.
type message struct {
	header  http.Header // with the pseudo fields
	body    string
	trailer http.Header
}

func (m *message) status() string { return m.header.Get(":status") }

// setUp starts a processor with a policy for all requests. The upstream answers with its count.
func setUp(t *testing.T, policy string) *envoy {
	t.Helper()
	e := &envoy{t: t, log: &lockedBuffer{}}
	e.upstream = func(m *message) *message {
		return &message{header: http.Header{":status": {"201"}, "Content-Type": {"text/plain"}}, body: fmt.Sprintf("order %d: %s", e.runs.Load(), m.body)}
	}
	metrics := gateway.NewMetrics()
	service, err := redisidem.OpenUnchecked("redis://"+miniredis.RunT(t).Addr(), &redisidem.Config{Observer: metrics, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	policies := &gateway.Policies{Defaults: gateway.Policy{Interrupted: policy}}
	if err := policies.Complete(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(e.log, nil))
	identify, err := gateway.FromHeader("X-Client", nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{
		Service: service, Upstream: &gateway.Upstream{URL: &url.URL{Scheme: "http", Host: "envoy"}, Transport: Transport{}},
		Policies: policies, Identify: identify, Metrics: metrics, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(NewHandler(g.Handler(), log))
	server.Config.Protocols = &http.Protocols{}
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	connection, err := grpc.NewClient(server.Listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(connection.Close()); err != nil {
			t.Error(err)
		}
		server.Close()
		g.Close()
		if err := service.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	e.client = extproc.NewExternalProcessorClient(connection)
	return e
}

func toMap(h http.Header) *core.HeaderMap {
	m := &core.HeaderMap{}
	for name, values := range h {
		for _, v := range values {
			m.Headers = append(m.Headers, &core.HeaderValue{Key: strings.ToLower(name), RawValue: []byte(v)})
		}
	}
	return m
}

// apply changes header fields as a mutation says.
func apply(t *testing.T, h http.Header, m *extproc.HeaderMutation) {
	t.Helper()
	for _, o := range m.GetSetHeaders() {
		name, value := o.GetHeader().GetKey(), string(o.GetHeader().GetRawValue())
		switch o.GetAppendAction() {
		case core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
			h.Set(name, value)
		case core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
			h.Add(name, value)
		default:
			t.Errorf("the action is %v", o.GetAppendAction())
		}
	}
	for _, name := range m.GetRemoveHeaders() {
		h.Del(name)
	}
}

// errBroken is returned when the client's connection broke.
var errBroken = errors.New("the client has gone")

// call sends a request through the processor and the upstream, and returns what the client gets.
func (e *envoy) call(in *message) (*message, error) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 20*time.Second)
	defer cancel() // Envoy resets the stream when the request is over
	stream, err := e.client.Process(ctx)
	if err != nil {
		return nil, err
	}
	mode := &modes.ProcessingMode{
		RequestBodyMode: modes.ProcessingMode_BUFFERED, RequestTrailerMode: modes.ProcessingMode_SEND,
		ResponseHeaderMode: modes.ProcessingMode_SEND, ResponseBodyMode: modes.ProcessingMode_BUFFERED, ResponseTrailerMode: modes.ProcessingMode_SEND,
	}
	if e.hides {
		mode.RequestTrailerMode = modes.ProcessingMode_SKIP
	}
	// exchange sends a part and applies the answer. It returns the response if that is immediate.
	exchange := func(part *extproc.ProcessingRequest, header http.Header) (*message, error) {
		part.ProtocolConfig = &extproc.ProtocolConfiguration{RequestBodyMode: modes.ProcessingMode_BUFFERED, ResponseBodyMode: modes.ProcessingMode_BUFFERED}
		if err := stream.Send(part); err != nil {
			return nil, err
		}
		out, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		e.messages.Add(1)
		if now := out.GetImmediateResponse(); now != nil {
			h := http.Header{":status": {fmt.Sprint(int32(now.GetStatus().GetCode()))}}
			apply(e.t, h, now.GetHeaders())
			return &message{header: h, body: string(now.GetBody())}, nil
		}
		switch {
		case part.GetRequestHeaders() != nil:
			apply(e.t, header, out.GetRequestHeaders().GetResponse().GetHeaderMutation())
		case part.GetRequestTrailers() != nil:
			apply(e.t, header, out.GetRequestTrailers().GetHeaderMutation())
		case part.GetRequestBody() != nil:
			apply(e.t, header, out.GetRequestBody().GetResponse().GetHeaderMutation())
		case part.GetResponseHeaders() != nil:
			apply(e.t, header, out.GetResponseHeaders().GetResponse().GetHeaderMutation())
		case part.GetResponseBody() != nil:
			apply(e.t, header, out.GetResponseBody().GetResponse().GetHeaderMutation())
		}
		if out.GetModeOverride() != nil && !e.deaf {
			mode = out.GetModeOverride()
		}
		return nil, nil //nolint:nilnil // Envoy continues
	}
	requestOf := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extproc.HttpHeaders{Headers: toMap(in.header), EndOfStream: in.body == "" && in.trailer == nil},
	}}
	if now, err := exchange(requestOf, in.header); now != nil || err != nil {
		return now, err
	}
	if in.body != "" && mode.GetRequestBodyMode() == modes.ProcessingMode_BUFFERED {
		part := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
			RequestBody: &extproc.HttpBody{Body: []byte(in.body), EndOfStream: in.trailer == nil},
		}}
		if now, err := exchange(part, in.header); now != nil || err != nil {
			return now, err
		}
	}
	if in.trailer != nil && mode.GetRequestTrailerMode() == modes.ProcessingMode_SEND {
		part := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestTrailers{
			RequestTrailers: &extproc.HttpTrailers{Trailers: toMap(in.trailer)},
		}}
		if now, err := exchange(part, in.trailer); now != nil || err != nil {
			return now, err
		}
	}
	e.runs.Add(1)
	out := e.upstream(in)
	if out == nil {
		return nil, errBroken
	}
	if mode.GetResponseHeaderMode() == modes.ProcessingMode_SEND {
		part := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{
			ResponseHeaders: &extproc.HttpHeaders{Headers: toMap(out.header), EndOfStream: out.body == "" && out.trailer == nil},
		}}
		if now, err := exchange(part, out.header); now != nil || err != nil {
			return now, err
		}
	}
	if out.body != "" && mode.GetResponseBodyMode() == modes.ProcessingMode_BUFFERED {
		part := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseBody{
			ResponseBody: &extproc.HttpBody{Body: []byte(out.body), EndOfStream: out.trailer == nil},
		}}
		if now, err := exchange(part, out.header); now != nil || err != nil {
			return now, err
		}
	}
	if out.trailer != nil && mode.GetResponseTrailerMode() == modes.ProcessingMode_SEND {
		part := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseTrailers{
			ResponseTrailers: &extproc.HttpTrailers{Trailers: toMap(out.trailer)},
		}}
		if now, err := exchange(part, out.header); now != nil || err != nil {
			return now, err
		}
	}
	return out, nil
}

// post returns a request with a key.
func post(key, body string) *message {
	h := http.Header{
		":method": {"POST"}, ":path": {"/orders?x=1"}, ":authority": {"api.example.com"}, ":scheme": {"https"},
		"X-Client": {"shop"}, "Content-Type": {"text/plain"},
	}
	if key != "" {
		h.Set("Idempotency-Key", key)
	}
	return &message{header: h, body: body}
}

// must sends a request and expects a status.
func (e *envoy) must(in *message, status string) *message {
	e.t.Helper()
	out, err := e.call(in)
	if err != nil {
		e.t.Fatal(err)
	}
	if out.status() != status {
		e.t.Fatalf("the status is %s, not %s: %s", out.status(), status, out.body)
	}
	return out
}

func TestRetryIsAnsweredWithoutTheUpstream(t *testing.T) {
	t.Parallel()
	for _, deaf := range []bool{false, true} {
		e := setUp(t, "refuse")
		e.deaf = deaf
		for i := range 3 {
			out := e.must(post("k", "tea"), "201")
			if out.body != "order 1: tea" || out.header.Get("Content-Type") != "text/plain" || (out.header.Get("Idempotency-Replayed") != "") != (i > 0) {
				t.Errorf("%d: %+v", i, out)
			}
		}
		e.must(post("k", "coffee"), "422")
		if e.runs.Load() != 1 {
			t.Errorf("the upstream got %d requests", e.runs.Load())
		}
	}
}

func TestRequestWithoutABodyAndResponseWithoutOne(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	e.upstream = func(*message) *message { return &message{header: http.Header{":status": {"204"}, "X-Order": {"7"}}} }
	for range 2 {
		if out := e.must(post("k", ""), "204"); out.header.Get("X-Order") != "" && e.runs.Load() != 1 {
			t.Errorf("%+v", out)
		}
	}
	if e.runs.Load() != 1 {
		t.Errorf("the upstream got %d requests", e.runs.Load())
	}
}

func TestUpstreamGetsTheLeaseAndNotTheClientsWord(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	var got []string
	e.upstream = func(m *message) *message {
		got = append(got, m.header.Get("Idempotency-Attempt"))
		return &message{header: http.Header{":status": {"200"}}, body: "done"}
	}
	for _, key := range []string{"k", ""} {
		in := post(key, "tea")
		in.header.Set("Idempotency-Attempt", "9")
		e.must(in, "200")
	}
	if strings.Join(got, ",") != "1," {
		t.Errorf("the upstream got the attempts %q", got)
	}
}

func TestRequestWithoutAKeyIsNotBuffered(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	e.must(post("", "tea"), "201")
	if got := e.messages.Load(); got != 2 { // for the headers of the request and of the response
		t.Errorf("the processor sent %d messages", got)
	}
	if e.deaf = true; e.must(post("", "tea"), "201").body != "order 2: tea" {
		t.Error("the response was changed")
	}
}

// TestTooLargeBodyPassesWhereKeysAreOptional sends bodies above max_body, with and without their
// length.
func TestTooLargeBodyPassesWhereKeysAreOptional(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	large := strings.Repeat("x", 1<<20+1)
	for i, length := range []string{"", strconv.Itoa(len(large))} {
		in := post("k", large)
		if length != "" {
			in.header.Set("Content-Length", length)
		}
		if out := e.must(in, "201"); out.body != fmt.Sprintf("order %d: %s", i+1, large) || out.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%q: %v %.20q", length, out.header, out.body)
		}
	}
}

func TestClientThatLeavesMakesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]string{"refuse": "503", "run": "201"} {
		e := setUp(t, policy)
		answer := e.upstream
		e.upstream = func(*message) *message { return nil }
		if _, err := e.call(post("k", "tea")); !errors.Is(err, errBroken) {
			t.Fatal(err)
		}
		e.upstream = answer
		// The processor notices a moment later.
		var out *message
		for range 500 {
			var err error
			if out, err = e.call(post("k", "tea")); err != nil {
				t.Fatal(err)
			}
			if out.status() != "409" {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if out.status() != want {
			t.Errorf("%s: %s %s", policy, out.status(), out.body)
		}
	}
}

func TestRefusalOfTheUpstreamIsNotKept(t *testing.T) {
	t.Parallel()
	e := setUp(t, "run")
	answer := e.upstream
	e.upstream = func(*message) *message { return &message{header: http.Header{":status": {"429"}}, body: "slow down"} }
	if out := e.must(post("k", "tea"), "429"); out.body != "slow down" {
		t.Errorf("%+v", out)
	}
	e.upstream = answer
	e.must(post("k", "tea"), "201")
}

func TestStoredTrailersAreNotLostInSilence(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	e.upstream = func(*message) *message {
		return &message{header: http.Header{":status": {"200"}, "Trailer": {"X-Sum"}}, body: "done", trailer: http.Header{"X-Sum": {"7"}}}
	}
	if out := e.must(post("k", "tea"), "200"); out.trailer.Get("X-Sum") != "7" {
		t.Errorf("%+v", out)
	}
	e.must(post("k", "tea"), "501")
	if e.runs.Load() != 1 {
		t.Errorf("the upstream got %d requests", e.runs.Load())
	}
}

// TestWrongConfigurationIsRefused breaks the protocol as wrong configurations of Envoy do.
func TestWrongConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	headers := func() *extproc.ProcessingRequest {
		return &extproc.ProcessingRequest{
			Request: &extproc.ProcessingRequest_RequestHeaders{
				RequestHeaders: &extproc.HttpHeaders{Headers: toMap(post("k", "tea").header)},
			},
			ProtocolConfig: &extproc.ProtocolConfiguration{RequestBodyMode: modes.ProcessingMode_BUFFERED, ResponseBodyMode: modes.ProcessingMode_BUFFERED},
		}
	}
	streamed, observed, old, none := headers(), headers(), headers(), headers()
	streamed.ProtocolConfig.RequestBodyMode = modes.ProcessingMode_STREAMED
	none.ProtocolConfig.ResponseBodyMode = modes.ProcessingMode_NONE
	observed.ObservabilityMode = true
	old.ProtocolConfig = nil
	for want, first := range map[string]*extproc.ProcessingRequest{
		"request_body_mode must be BUFFERED: STREAMED": streamed,
		"observability_mode must not be set":           observed,
		"set request_header_mode to SEND":              {Request: &extproc.ProcessingRequest_RequestBody{RequestBody: &extproc.HttpBody{}}},
	} {
		stream, err := e.client.Process(t.Context())
		if err == nil {
			err = stream.Send(first)
		}
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}

	// Envoy does not wait with the request for its body.
	stream, err := e.client.Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	late := &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extproc.HttpHeaders{Headers: toMap(http.Header{":status": {"200"}})},
	}}
	for _, m := range []*extproc.ProcessingRequest{headers(), late} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil && status.Code(err) != codes.Aborted {
			t.Fatal(err)
		}
	}
	if !strings.Contains(e.log.String(), "request_body_mode") {
		t.Errorf("the log says nothing: %s", e.log)
	}
}

// TestForgedLeaseFieldsNeverReachTheUpstream sends the fields of a lease as a client, in the header
// and in the trailers.
func TestForgedLeaseFieldsNeverReachTheUpstream(t *testing.T) {
	t.Parallel()
	names := []string{idemheader.Attempt, idemheader.Fence}
	for name, c := range map[string]struct {
		key, body string
		trailers  bool
		method    string
		protected bool
	}{
		"Keyed": {"k", "tea", false, "POST", true}, "WithoutABody": {"k", "", false, "POST", true},
		"Trailers": {"k", "tea", true, "POST", true}, "TooLarge": {"k", strings.Repeat("x", 1<<20+1), true, "POST", false},
		"Unkeyed": {"", "tea", true, "POST", false}, "UnkeyedTrailersAlone": {"", "", true, "POST", false},
		"TrailersAlone": {"k", "", true, "POST", false}, "NotCovered": {"k", "", true, "GET", false},
	} {
		for _, deaf := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/Deaf=%t", name, deaf), func(t *testing.T) {
				t.Parallel()
				e := setUp(t, "refuse")
				e.deaf = deaf
				e.upstream = func(m *message) *message {
					for _, name := range names {
						if got := m.header.Get(name); (got != "") != c.protected || got == "88" || m.trailer.Get(name) != "" {
							t.Errorf("%s is %q, and %q in the trailers", name, got, m.trailer.Get(name))
						}
					}
					return &message{header: http.Header{":status": {"200"}}, body: "done"}
				}
				in := post(c.key, c.body)
				in.header.Set(":method", c.method)
				if c.trailers {
					in.trailer = http.Header{"X-Sum": {"7"}}
				}
				for _, name := range names {
					in.header.Set(name, "88")
					if c.trailers {
						in.trailer.Set(name, "88")
					}
				}
				if _, err := e.call(in); err != nil && status.Code(err) != codes.Aborted { // Envoy has not waited
					t.Fatal(err)
				}
			})
		}
	}
}

// TestForgedLeaseFieldsAreRemovedBeforeTheBody has an Envoy that does not show trailers and accepts
// no other mode. It sends a request with trailers and no body while the processor waits for one.
func TestForgedLeaseFieldsAreRemovedBeforeTheBody(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	e.deaf, e.hides = true, true
	e.upstream = func(m *message) *message {
		if got := m.header.Get(idemheader.Fence); got != "" {
			t.Errorf("the fence is %q", got)
		}
		return &message{header: http.Header{":status": {"200"}}, body: "done"}
	}
	in := post("k", "")
	in.trailer = http.Header{"X-Sum": {"7"}}
	in.header.Set(idemheader.Fence, "88")
	if _, err := e.call(in); status.Code(err) != codes.Aborted || e.runs.Load() != 1 {
		t.Errorf("%v, and the upstream got %d requests", err, e.runs.Load())
	}
}

// TestRequestWithAKeyAndTrailersAloneIsRefused has a request whose header fields cannot be changed
// any more when its trailers have come.
func TestRequestWithAKeyAndTrailersAloneIsRefused(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	for range 2 { // nothing is stored
		in := post("k", "")
		in.trailer = http.Header{"X-Sum": {"7"}}
		out := e.must(in, "400")
		if out.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(out.body, "trailers") || out.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%v %s", out.header, out.body)
		}
	}
	if e.runs.Load() != 0 {
		t.Errorf("the upstream got %d requests", e.runs.Load())
	}
	e.must(post("k", ""), "201") // without trailers, the key is free
	in := post("", "")
	in.trailer = http.Header{"X-Sum": {"7"}}
	e.must(in, "201")
}

func TestUpgradeIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	e.upstream = func(*message) *message {
		return &message{header: http.Header{":status": {"101"}, "Upgrade": {"websocket"}, "Sec-Websocket-Accept": {"x"}}}
	}
	in := post("", "")
	in.header.Set(":method", "GET")
	in.header.Set("Connection", "Upgrade")
	in.header.Set("Upgrade", "websocket")
	if out := e.must(in, "101"); out.header.Get("Sec-Websocket-Accept") != "x" || out.header.Get("Content-Type") != "" {
		t.Errorf("%+v", out)
	}
}

func TestRefusalOfTheUpstreamIsKnown(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	answer := e.upstream
	e.upstream = func(*message) *message { return &message{header: http.Header{":status": {"429"}}, body: "slow down"} }
	e.must(post("k", "tea"), "429")
	e.upstream = answer
	e.must(post("k", "tea"), "201")
}

func TestPathThatCannotBeParsedIsRefused(t *testing.T) {
	t.Parallel()
	e := setUp(t, "refuse")
	in := post("k", "tea")
	in.header.Set(":path", "no path")
	e.must(in, "400")
}

// TestOnlyTheRequestItselfIsSent has a handler that sends another request on the way to the
// upstream, and the request twice.
func TestOnlyTheRequestItselfIsSent(t *testing.T) {
	t.Parallel()
	x := &exchange{method: http.MethodPost, sent: true}
	for method, sent := range map[string]bool{http.MethodGet: false, http.MethodPost: true} {
		x.sent = sent
		r := httptest.NewRequest(method, "/", http.NoBody)
		if _, err := (Transport{}).RoundTrip(r.WithContext(context.WithValue(t.Context(), exchangeContext{}, x))); !errors.Is(err, errOtherRequest) { //nolint:bodyclose // no response comes
			t.Errorf("%s: %v", method, err)
		}
	}
}
