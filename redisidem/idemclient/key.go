package idemclient

import (
	"context"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// NewKey returns a fresh random key, a version 4 UUID. It is safe for concurrent use.
func NewKey() string { return uuid.NewString() }

// NewTimeKey returns a fresh random key that contains its creation time, a version 7 UUID. It is
// for servers that refuse old keys. It is safe for concurrent use.
func NewTimeKey() string { return uuid.Must(uuid.NewV7()).String() }

type keyContext struct{}

// WithKey returns a context whose requests a [Transport] sends with the given key. Store the key
// beside the program's own record of the work. A request that is sent again after a restart then
// has the same key.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyContext{}, key)
}

// setKey sets the key of a request that has none in its header. It takes the key of the context, or
// of the request that was redirected, or a fresh one.
func (t *Transport) setKey(req *http.Request) error {
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	if len(req.Header[t.cfg.Header]) > 0 {
		return nil
	}
	key, ok := req.Context().Value(keyContext{}).(string)
	if !ok && req.Response != nil && req.Response.Request != nil {
		if lines := req.Response.Request.Header[t.cfg.Header]; len(lines) > 0 {
			req.Header[t.cfg.Header] = slices.Clone(lines)
			return nil
		}
	}
	if !ok {
		key = t.cfg.NewKey()
	}
	text, err := idemheader.Format(key)
	if err != nil {
		return err
	}
	req.Header.Set(t.cfg.Header, text)
	return nil
}
