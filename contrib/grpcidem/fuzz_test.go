package grpcidem

import (
	"bytes"
	"context"
	"testing"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/redisidem/redisidem/redisidem"
)

// FuzzFingerprint checks that two calls have the same fingerprint exactly when their method and
// message are the same.
func FuzzFingerprint(f *testing.F) {
	f.Add("/a/b", []byte("c"), "/a/bc", []byte{})
	f.Add("/a", []byte{1}, "/a", []byte{1})
	f.Fuzz(func(t *testing.T, m1 string, b1 []byte, m2 string, b2 []byte) {
		one, err1 := fingerprint(m1, wrapperspb.Bytes(b1))
		two, err2 := fingerprint(m2, wrapperspb.Bytes(b2))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if same := m1 == m2 && bytes.Equal(b1, b2); same != bytes.Equal(one, two) {
			t.Fatalf("same: %v, same fingerprint: %v", same, bytes.Equal(one, two))
		}
	})
}

// FuzzReplay checks that a stored answer is replayed unchanged, and that no other stored value is
// taken for an answer.
func FuzzReplay(f *testing.F) {
	broken, _ := proto.Marshal(&spb.Status{Code: 0})
	f.Add([]byte("body"), int32(5), "not found", "x-name", []byte("value"), broken)
	f.Add([]byte{}, int32(0), "", "X-bin", []byte{0xff}, []byte{0xff})
	f.Add([]byte{}, int32(-1), "\xff", "", []byte{}, []byte{})
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: true}) // never dialled
	f.Cleanup(func() { _ = client.Close() })
	service, err := redisidem.New(client, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, code int32, message, name string, value, garbage []byte) {
		s := &Server{service: service, cfg: Config{Metadata: []string{name}}}
		ctx := grpc.NewContextWithServerTransportStream(context.Background(), &deaf{})

		tapped := newTap(ctx)
		tapped.header = metadata.Pairs(name, string(value))
		stored := s.encode(wrapperspb.Bytes(body), nil, tapped)
		header, _ := split(stored.Header)
		if got := header.Get(name); name != "" && (len(got) != 1 || got[0] != string(value)) {
			t.Fatalf("the field %q with %q came back as %q", name, value, got)
		}
		answer, err := s.replay(ctx, &stored)
		if err != nil || !proto.Equal(answer.(proto.Message), wrapperspb.Bytes(body)) {
			t.Fatalf("%q came back as %v, %v", body, answer, err)
		}
		if failure := status.New(codes.Code(code), message); failure.Err() != nil {
			first := sendable(failure.Err())
			stored = s.encode(nil, first, tapped)
			answer, err = s.replay(ctx, &stored)
			if got := status.Convert(err); answer != nil || got.Code() != codes.Code(code) || got.Message() != status.Convert(first).Message() ||
				utf8.ValidString(message) && got.Message() != message {
				t.Fatalf("%v came back as %v, %v", failure, answer, err)
			}
		}
		if answer, err := s.replay(ctx, &redisidem.Response{Body: garbage}); (answer == nil) == (err == nil) {
			t.Fatalf("%q was taken for %v, %v", garbage, answer, err)
		}
	})
}

// deaf is the transport of a call that drops all metadata.
type deaf struct{}

func (*deaf) Method() string               { return "/a" }
func (*deaf) SetHeader(metadata.MD) error  { return nil }
func (*deaf) SendHeader(metadata.MD) error { return nil }
func (*deaf) SetTrailer(metadata.MD) error { return nil }
