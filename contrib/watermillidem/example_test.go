package watermillidem_test

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/alicebob/miniredis/v2"

	"github.com/redisidem/redisidem/contrib/watermillidem"
	"github.com/redisidem/redisidem/redisidem"
)

// An order that is sent twice is charged once. Each delivery publishes the same message.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server, err := miniredis.Run()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(context.Background()) }()

	consumer, err := watermillidem.New(svc, "billing", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	queue := gochannel.NewGoChannel(gochannel.Config{}, nil)
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		fmt.Println(err)
		return
	}
	router.AddMiddleware(consumer.Middleware)
	router.AddHandler("charge", "orders", queue, "receipts", queue, func(msg *message.Message) ([]*message.Message, error) {
		fmt.Println("charge for", string(msg.Payload))
		return message.Messages{message.NewMessage("receipt of "+msg.UUID, msg.Payload)}, nil
	})
	receipts, err := queue.Subscribe(ctx, "receipts")
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error)
	go func() { ended <- router.Run(ctx) }()
	<-router.Running()

	for range 2 {
		if err := queue.Publish("orders", message.NewMessage("order 1", []byte("a book"))); err != nil {
			fmt.Println(err)
			return
		}
		receipt := <-receipts
		receipt.Ack()
		fmt.Println(receipt.UUID)
	}
	cancel()
	fmt.Println(<-ended)
	// Output:
	// charge for a book
	// receipt of order 1
	// receipt of order 1
	// <nil>
}
