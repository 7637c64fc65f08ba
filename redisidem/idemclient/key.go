package idemclient

import (
	"context"

	"github.com/google/uuid"
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
