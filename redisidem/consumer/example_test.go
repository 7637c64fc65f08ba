package consumer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/consumer"
)

// A message is handled once, although the broker delivers it twice. A message that cannot be
// handled becomes a dead letter.
func Example() {
	ctx := context.Background()
	server, err := miniredis.Run() // stands for a production's Redis
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	svc, err := redisidem.Open(ctx, "redis://"+server.Addr(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	mailer, err := consumer.New(svc, "orders/mailer", &consumer.Config{
		MaxAttempts: 2,
		DeadLetter: func(_ context.Context, m consumer.Message, cause error) error {
			fmt.Println("dead letter:", m.ID, cause)
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	work := func(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
		fmt.Println("work:", st.Key().Value)
		if st.Key().Value == "message 2" {
			return redisidem.Outcome{}, errors.New("no such customer")
		}
		return redisidem.Finish(redisidem.Response{Body: []byte("sent")}), nil
	}

	// What a broker delivers. It delivers a message again that is not acknowledged.
	for _, id := range []string{"message 1", "message 1", "message 2", "message 2"} {
		_, err := mailer.Handle(ctx, consumer.Message{ID: id}, work)
		fmt.Println("acknowledge:", err == nil)
	}
	// Output:
	// work: message 1
	// acknowledge: true
	// acknowledge: true
	// work: message 2
	// acknowledge: false
	// work: message 2
	// dead letter: message 2 no such customer
	// acknowledge: true
}
