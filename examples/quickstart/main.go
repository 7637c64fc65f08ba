// Quickstart plays the life of an idempotency key on the screen: a cart is completed in stages, a
// worker dies on the way, and retries continue, replay, are refused and wait.
//
// It brings its own Redis. With REDIS_URL set it uses that one instead:
//
//	go run ./examples/quickstart
//	REDIS_URL=redis://localhost:6379 go run ./examples/quickstart
//
// The code to copy is in shop.go.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Getenv("REDIS_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, url string) (err error) {
	fmt.Fprintln(out, "Completing a cart, with a crash on the way.")
	if url == "" {
		server, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer server.Close()
		url = "redis://" + server.Addr()
		fmt.Fprintln(out, "Redis: embedded in this program (miniredis); set REDIS_URL to use another.")
	} else {
		fmt.Fprintln(out, "Redis: the one of REDIS_URL.")
	}
	fmt.Fprintln(out, "On the left: the recovery point at which a stage starts, or who speaks.")

	svc, err := redisidem.Open(ctx, url, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, svc.Close(ctx)) }()

	s := &story{keys: svc.Scope("tenant-42"), key: "cart-1-" + rand.Text()[:8], out: out}
	return s.play(ctx)
}

// story is the play: one client, the key it chose, and the workers that serve it.
type story struct {
	keys *redisidem.Scope
	key  string
	mu   sync.Mutex // guards out
	out  io.Writer
}

func (s *story) play(ctx context.Context) error {
	bank := &bank{reserved: make(map[string]int)}
	worker := func() *checkout {
		return &checkout{keys: s.keys, cart: cart{ID: "1", Net: 10000}, bank: bank, say: s.say}
	}

	s.title("1. A client asks to complete its cart, with the idempotency key %s", s.key)
	doomed := worker()
	doomed.powerCut = true
	_, err := mortal(func() (*redisidem.Key, error) { return doomed.complete(ctx, s.key) })
	if !errors.Is(err, errDied) {
		return fmt.Errorf("the worker should have died: %w", err)
	}
	s.say("", "%v, before it can note that in the record", err)
	s.say("", "(a panic plays it; a killed process would also leave its lease to lapse, 10s at most)")
	s.say("client", "gets no answer")

	s.title("2. The client retries with the same key; another worker goes on where the record stands")
	first, err := worker().complete(ctx, s.key)
	if err != nil {
		return err
	}
	s.answer(first)
	s.say("bank", "has reserved %s in all", euro(bank.total()))

	s.title("3. The client retries once more, as if that answer had been lost on its way")
	second, err := worker().complete(ctx, s.key)
	if err != nil {
		return err
	}
	s.answer(second)
	s.say("", "no stage ran; the same bytes: %t", bytes.Equal(first.Response.Body, second.Response.Body))

	s.title("4. The same key comes with another cart")
	other := worker()
	other.cart.Net = 1
	_, err = other.complete(ctx, s.key)
	if !errors.Is(err, redisidem.ErrFingerprintMismatch) {
		return fmt.Errorf("the other cart should have been refused: %w", err)
	}
	s.say("client", "refused: %v", err)
	return s.race(ctx)
}

// race lets two workers serve the same request at the same time. Its work has one stage, so Do is
// enough.
func (s *story) race(ctx context.Context) error {
	s.title("5. Two workers get the same request at once")
	key, req := s.key+"-receipt", redisidem.Request{Method: "POST", Path: "/carts/1/receipt"}
	begun, finished := make(chan struct{}), make(chan error, 1)
	go func() {
		receipt, _, err := redisidem.Do(ctx, s.keys, key, req, func(context.Context, *redisidem.Stage) (string, error) {
			s.say("worker A", "has the key, and writes a receipt")
			close(begun)
			time.Sleep(300 * time.Millisecond)
			return "receipt 4711", nil
		})
		s.say("worker A", "answers %q", receipt)
		finished <- err
	}()
	select {
	case <-begun:
	case err := <-finished:
		return fmt.Errorf("worker A did not begin: %w", err)
	}

	write := func(context.Context, *redisidem.Stage) (string, error) {
		return "", errors.New("worker B worked, too")
	}
	_, _, err := redisidem.Do(ctx, s.keys, key, req, write)
	locked, ok := errors.AsType[*redisidem.LockedError](err) // it also matches errors.Is(err, redisidem.ErrLocked)
	if !ok {
		return fmt.Errorf("worker B should have been refused: %w", err)
	}
	s.say("worker B", "refused with ErrLocked; should A die, the key is free in %v",
		locked.RetryAfter.Round(100*time.Millisecond))

	s.say("worker B", "asks again, and waits up to 2s")
	receipt, replayed, err := redisidem.Do(ctx, s.keys.Wait(2*time.Second), key, req, write)
	if err = errors.Join(<-finished, err); err != nil {
		return err
	}
	s.say("worker B", "answers %q, replayed: %t", receipt, replayed)
	return nil
}

var errDied = errors.New("the worker dies")

// mortal runs a worker. A panic ends the worker and not the program, so that the story can go on.
func mortal(work func() (*redisidem.Key, error)) (key *redisidem.Key, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w of a %v", errDied, cause)
		}
	}()
	return work()
}

func (s *story) title(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "\n"+format+"\n", args...)
}

// say writes a line: the recovery point at which a stage starts, or whose line it is, and the text.
func (s *story) say(who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "   %-20s %s\n", who, fmt.Sprintf(format, args...))
}

func (s *story) answer(key *redisidem.Key) {
	s.say("client", "%d %s", key.Response.Code, key.Response.Body)
	s.say("", "replayed: %t", key.Replayed())
}
