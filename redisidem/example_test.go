package redisidem_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/redisidem/redisidem/redisidem"
)

// embeddedRedis stands for a production's Redis, so that the examples run anywhere.
func embeddedRedis() (addr string, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	return server.Addr(), server.Close
}

// exampleScope returns a tenant's scope of a fresh service.
func exampleScope() (sc *redisidem.Scope, stop func()) {
	addr, stopRedis := embeddedRedis()
	svc, err := redisidem.Open(context.Background(), "redis://"+addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	return svc.Scope("tenant-42"), func() {
		_ = svc.Close(context.Background())
		stopRedis()
	}
}

// Work of several stages is a loop over recovery points. A retry continues where an earlier request stopped, and a retry
// of finished work gets its answer.
func Example() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/orders", Params: map[string]string{"item": "book"}}

	serve := func() (*redisidem.Key, error) {
		key, err := sc.InitializeRequest(ctx, "key-from-the-client", req)
		for err == nil && !key.Answered() {
			switch key.RecoveryPoint {
			case redisidem.Started:
				key, err = sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					fmt.Println("reserve the book")
					return redisidem.Advance("reserved"), nil
				})
			case "reserved":
				key, err = sc.WorkStage(ctx, key, func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
					fmt.Println("charge the card")
					return redisidem.Finish(redisidem.JSON(201, "order 1")), nil
				})
			default:
				err = redisidem.ErrUnknownRecoveryPoint
			}
		}
		return key, err
	}

	for range 2 { // the request, and its retry
		key, err := serve()
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(key.Response.Code, string(key.Response.Body), key.Replayed())
	}
	// Output:
	// reserve the book
	// charge the card
	// 201 "order 1" false
	// 201 "order 1" true
}

func ExampleNew() {
	addr, stop := embeddedRedis()
	defer stop()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()

	svc, err := redisidem.New(client, &redisidem.Config{Namespace: "orders", Retention: 72 * time.Hour})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(context.Background()) }()
	fmt.Println(svc.Config().Namespace, svc.Config().Retention, svc.Config().Lease)

	_, err = redisidem.New(client, &redisidem.Config{Lease: time.Microsecond})
	fmt.Println(errors.Is(err, redisidem.ErrInvalid))
	// Output:
	// orders 72h0m0s 10s
	// true
}

func ExampleOpen() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()

	svc, err := redisidem.Open(ctx, "redis://"+addr+"/0", nil)
	if errors.Is(err, redisidem.ErrUnsafeServer) {
		fmt.Println("this server forgets keys")
	}
	if err != nil {
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	_, err = svc.Scope("tenant-42").Retrieve(ctx, "key-from-the-client")
	fmt.Println(errors.Is(err, redisidem.ErrNotFound))
	// Output: true
}

func ExampleDo() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/charges", Params: map[string]int{"cents": 1200}}
	charge := func(context.Context, *redisidem.Stage) (string, error) {
		fmt.Println("charging")
		return "receipt 1", nil
	}

	for range 2 { // the request, and its retry
		receipt, replayed, err := redisidem.Do(ctx, sc, "key-from-the-client", req, charge)
		fmt.Println(receipt, replayed, err)
	}

	req.Params = map[string]int{"cents": 9900}
	_, _, err := redisidem.Do(ctx, sc, "key-from-the-client", req, charge)
	fmt.Println(errors.Is(err, redisidem.ErrFingerprintMismatch))
	// Output:
	// charging
	// receipt 1 false <nil>
	// receipt 1 true <nil>
	// true
}

// An error of the callback leaves the recovery point where it is, and the next request tries the stage again.
func ExampleScope_WorkStage() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()

	key, err := sc.InitializeRequest(ctx, "key-from-the-client", redisidem.Request{Method: "POST", Path: "/mails"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		key, err = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			if st.Attempt() == 1 {
				return redisidem.Outcome{}, errors.New("the mail server is away")
			}
			return redisidem.Finish(redisidem.Response{Code: 204}), nil
		})
		fmt.Println(key.RecoveryPoint, err)
	}
	// Output:
	// started the mail server is away
	// finished <nil>
}

// A lease is for work that does not fit into a callback.
func ExampleScope_Lock() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	if _, err := sc.InitializeRequest(ctx, "import-7", redisidem.Request{Method: "IMPORT"}); err != nil {
		fmt.Println(err)
		return
	}

	lease, err := sc.Lock(ctx, "import-7")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = lease.Abandon(ctx) }() // after a Commit it does nothing

	_, err = sc.Lock(ctx, "import-7")
	fmt.Println(errors.Is(err, redisidem.ErrLocked))

	key, held, err := lease.CommitKeep(ctx, redisidem.Advance("half"))
	fmt.Println(key.RecoveryPoint, held, err)
	key, err = lease.Commit(ctx, redisidem.Finish(redisidem.JSON(200, 7)))
	fmt.Println(key.RecoveryPoint, err)
	// Output:
	// true
	// half true <nil>
	// finished <nil>
}

// A request that comes while another one works on the same key can wait for its answer.
func ExampleScope_Wait() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/charges"}

	working, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = redisidem.Do(ctx, sc, "k", req, func(context.Context, *redisidem.Stage) (string, error) {
			close(working)
			time.Sleep(50 * time.Millisecond)
			return "receipt 1", nil
		})
	}()
	<-working
	work := func(context.Context, *redisidem.Stage) (string, error) { return "receipt 2", nil }

	_, _, err := redisidem.Do(ctx, sc, "k", req, work)
	fmt.Println(errors.Is(err, redisidem.ErrLocked))

	receipt, replayed, err := redisidem.Do(ctx, sc.Wait(10*time.Second), "k", req, work)
	fmt.Println(receipt, replayed, err)
	<-done
	// Output:
	// true
	// receipt 1 true <nil>
}

// An interim answer ends this request, and the next one with the same key goes on.
func ExampleInterim() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/payments"}

	confirmed := false
	pay := func(context.Context, *redisidem.Stage) (redisidem.Outcome, error) {
		if !confirmed {
			return redisidem.Interim("started", redisidem.JSON(202, "please confirm")), nil
		}
		return redisidem.Finish(redisidem.JSON(200, "paid")), nil
	}
	for range 2 {
		key, err := sc.Do(ctx, "key-from-the-client", req, pay)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(key.Response.Code, string(key.Response.Body), key.Finished())
		confirmed = true
	}
	// Output:
	// 202 "please confirm" false
	// 200 "paid" true
}

// Another service that knows idempotency keys itself gets the same one from each run of a stage.
func ExampleStage_OutboundKey() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	key, err := sc.Create(ctx, redisidem.Request{Method: "POST", Path: "/charges"})
	if err != nil {
		fmt.Println(err)
		return
	}

	sent := make(map[string]int)
	for range 2 { // the first run fails after it has sent its call
		_, _ = sc.WorkStage(ctx, key, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
			sent[st.OutboundKey("charge")]++
			if st.Attempt() == 1 {
				return redisidem.Outcome{}, errors.New("no answer")
			}
			return redisidem.Finish(redisidem.JSON(200, "charged")), nil
		})
	}
	for _, times := range sent {
		fmt.Println("one key, sent", times, "times")
	}
	// Output: one key, sent 2 times
}

// A stage leaves what later ones need, also in another process after a crash.
func ExampleStage_State() {
	sc, stop := exampleScope()
	defer stop()
	ctx := context.Background()
	req := redisidem.Request{Method: "POST", Path: "/rides"}
	type ride struct{ Driver string }

	_, err := sc.Do(ctx, "k", req, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		fmt.Println(errors.Is(st.State(new(ride)), redisidem.ErrNoState))
		return redisidem.Advance("ride_created").WithState(ride{Driver: "Ada"}), nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = sc.Do(ctx, "k", req, func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		var r ride
		if err := st.State(&r); err != nil {
			return redisidem.Outcome{}, err
		}
		fmt.Println(st.Key().RecoveryPoint, r.Driver)
		return redisidem.Finish(redisidem.JSON(201, r)), nil
	})
	fmt.Println(err)
	// Output:
	// true
	// ride_created Ada
	// <nil>
}

func ExampleService_Check() {
	addr, stop := embeddedRedis()
	defer stop()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	svc, err := redisidem.New(client, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	report, err := svc.Check(ctx)
	if err != nil { // the server did not answer
		fmt.Println(err)
		return
	}
	for _, f := range report.Findings {
		fmt.Printf("%s: %v\n", f.Subject, f.Verdict)
	}
	fmt.Println(errors.Is(report.Err(), redisidem.ErrUnsafeServer))
	// Output:
	// version: undetermined
	// eviction: undetermined
	// persistence: undetermined
	// replication: undetermined
	// scripts: good
	// rights: good
	// false
}
