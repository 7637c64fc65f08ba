package redisidem

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem/internal/backoff"
	"github.com/redisidem/redisidem/redisidem/internal/protocol"
)

const (
	// heartbeat is how long a subscription may be silent before it is asked whether it is alive,
	// and how long it then has to answer.
	heartbeat = 3 * time.Second
	// The pauses before a lost subscription is made again: they double from the first to the last.
	firstSubscribePause = 50 * time.Millisecond
	lastSubscribePause  = 5 * time.Second
)

// listener is a service's ear: one subscription on which it hears that a key it waits for is free,
// and that a finished record it has a copy of was deleted. Whatever it misses costs time and never
// correctness: waiters poll as well, and copies are dropped when the subscription stands again
// after it was down, and end by themselves.
type listener struct {
	client    redis.UniversalClient
	channel   string // on which scripts wake this process when a key is free
	deletions string // on which deletions are published, or "" if this process keeps no copies

	freed   func(record string)
	deleted func(record string)
	missed  func() // messages may have been missed

	begin  sync.Once
	up     atomic.Bool
	cancel context.CancelFunc
	ctx    context.Context
	done   chan struct{}
}

// newListener makes a listener that is not listening yet.
func newListener(client redis.UniversalClient, namespace string) *listener {
	l := &listener{client: client, channel: protocol.NewWakeChannel(namespace), done: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// listen makes the listener listen, if it is not yet, without waiting for it. It returns the
// channel for wake-ups, or "" while the subscription does not stand.
func (l *listener) listen() string {
	l.begin.Do(func() { go l.run() })
	if !l.up.Load() {
		return ""
	}
	return l.channel
}

// close ends the listening, and waits until it has ended, or ctx has: a connection that is being
// made cannot be called off.
func (l *listener) close(ctx context.Context) error {
	l.cancel()
	l.begin.Do(func() { close(l.done) }) // it can no longer begin
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run keeps a subscription until the listener is closed.
func (l *listener) run() {
	defer close(l.done)
	pauses := backoff.Backoff{First: firstSubscribePause, Max: lastSubscribePause}
	for {
		if l.subscribe() {
			pauses.Reset()
		}
		l.up.Store(false)
		if !backoff.Wait(l.ctx, pauses.Jittered()) {
			return
		}
	}
}

// subscribe listens on one subscription until that is lost. It reports whether it ever stood.
func (l *listener) subscribe() (stood bool) {
	channels := []string{l.channel}
	if l.deletions != "" {
		channels = append(channels, l.deletions)
	}
	sub := l.client.Subscribe(l.ctx, channels...)
	stop := context.AfterFunc(l.ctx, func() { _ = sub.Close() })
	defer func() {
		if stop() {
			_ = sub.Close() // the connection is lost or given up either way
		}
	}()
	confirmed, asked := 0, false
	for {
		message, err := sub.ReceiveTimeout(l.ctx, heartbeat)
		timeout, isNet := errors.AsType[net.Error](err)
		switch {
		case l.ctx.Err() != nil:
			return stood
		case isNet && timeout.Timeout() && stood && !asked:
			asked = true
			if sub.Ping(l.ctx) != nil {
				return stood
			}
			continue
		case err != nil:
			return stood
		}
		asked = false
		switch m := message.(type) {
		case *redis.Subscription:
			confirmed++
			if confirmed == len(channels) {
				// Not when the subscription was lost: a finished key is answered although Redis is
				// away.
				l.missed()
				l.up.Store(true)
				stood = true
			}
		case *redis.Message:
			switch m.Channel {
			case l.channel:
				l.freed(m.Payload)
			case l.deletions:
				l.deleted(m.Payload)
			}
		}
	}
}
