//go:build unix

package faults

import (
	"context"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"
)

// errorWatcher is a client hook that watches for errors of the server.
type errorWatcher struct {
	mu       sync.Mutex
	expected map[string]chan struct{}
}

// expect returns a channel that is closed at the next error that begins with word.
func (t *errorWatcher) expect(word string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.expected == nil {
		t.expected = make(map[string]chan struct{})
	}
	met := make(chan struct{})
	t.expected[word] = met
	return met
}

func (t *errorWatcher) look(err error) {
	if err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for word, met := range t.expected {
		if redis.HasErrorPrefix(err, word) {
			close(met)
			delete(t.expected, word)
		}
	}
}

// DialHook implements [redis.Hook].
func (t *errorWatcher) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements [redis.Hook].
func (t *errorWatcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		t.look(err)
		return err
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (t *errorWatcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		t.look(err)
		for _, cmd := range cmds {
			t.look(cmd.Err())
		}
		return err
	}
}
