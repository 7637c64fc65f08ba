package grpcidem

import (
	"context"
	"encoding/base64"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// tap holds back the metadata that a handler sets until its response is stored. The metadata must
// not be sent if the result was refused or the handler panicked.
type tap struct {
	grpc.ServerTransportStream
	mu              sync.Mutex
	header, trailer metadata.MD
	sent            bool // the header
}

// newTap returns a tap on the call of a context.
func newTap(ctx context.Context) *tap {
	return &tap{ServerTransportStream: grpc.ServerTransportStreamFromContext(ctx)}
}

// context returns a context whose metadata goes through the tap.
func (t *tap) context(ctx context.Context) context.Context {
	if t.ServerTransportStream == nil {
		return ctx // a test has called the interceptor directly
	}
	return grpc.NewContextWithServerTransportStream(ctx, t)
}

// SetHeader implements [grpc.ServerTransportStream].
func (t *tap) SetHeader(md metadata.MD) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sent {
		return t.ServerTransportStream.SetHeader(md) // it returns the reason
	}
	t.header = metadata.Join(t.header, unmarked(md))
	return nil
}

// SendHeader implements [grpc.ServerTransportStream].
func (t *tap) SendHeader(md metadata.MD) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sent {
		return t.ServerTransportStream.SendHeader(md) // it returns the reason
	}
	t.header, t.sent = metadata.Join(t.header, unmarked(md)), true
	return t.ServerTransportStream.SendHeader(t.header)
}

// SetTrailer implements [grpc.ServerTransportStream].
func (t *tap) SetTrailer(md metadata.MD) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trailer = metadata.Join(t.trailer, unmarked(md))
	return nil
}

// send sends the metadata that was held back. It ignores errors: a caller that has disconnected
// does not change the outcome.
func (t *tap) send() {
	if t.ServerTransportStream == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.sent {
		_ = t.ServerTransportStream.SetHeader(t.header)
	}
	_ = t.ServerTransportStream.SetTrailer(t.trailer)
}

// unmarked returns metadata without the mark of replays.
func unmarked(md metadata.MD) metadata.MD {
	if len(md.Get(Replayed)) == 0 {
		return md
	}
	md = md.Copy()
	md.Delete(Replayed)
	return md
}

// The stored names of header and trailer metadata have different prefixes. Values are base64,
// because metadata whose name ends in -bin holds any bytes.
const (
	headerPrefix  = "Header-"
	trailerPrefix = "Trailer-"
)

// kept returns the metadata with the given names in the form that a response stores.
func (t *tap) kept(names []string) map[string][]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := make(map[string][]string)
	for prefix, md := range map[string]metadata.MD{headerPrefix: t.header, trailerPrefix: t.trailer} {
		for _, name := range names {
			for _, v := range md.Get(name) {
				kept[prefix+name] = append(kept[prefix+name], base64.StdEncoding.EncodeToString([]byte(v)))
			}
		}
	}
	return kept
}

// split decodes stored metadata. Values that cannot be read are left out, because the response does
// not depend on them.
func split(stored map[string][]string) (header, trailer metadata.MD) {
	header, trailer = metadata.MD{}, metadata.MD{}
	for name, values := range stored {
		md, to := header, ""
		if rest, ok := strings.CutPrefix(name, headerPrefix); ok {
			to = rest
		} else if rest, ok := strings.CutPrefix(name, trailerPrefix); ok {
			md, to = trailer, rest
		}
		for _, v := range values {
			if text, err := base64.StdEncoding.DecodeString(v); err == nil && to != "" {
				md.Append(to, string(text))
			}
		}
	}
	return header, trailer
}
