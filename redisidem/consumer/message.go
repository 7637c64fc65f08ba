package consumer

import (
	"context"
	"time"
)

// Message is one delivery of a message.
type Message struct {
	// ID is the same in each delivery of the message, and in no other message of the subscription.
	// It is the key. Take it from the producer, who knows which messages are the same, and not from
	// the broker, who gives a message that is sent twice two numbers. Required.
	ID string

	// Body is compared with that of the first delivery, and not stored. Nil is an empty body.
	Body []byte

	// Extend asks the broker for more time before it delivers the message again: InProgress of
	// NATS, or ChangeMessageVisibility of SQS. It is called once in each Config.ExtendEvery, in a
	// goroutine of its own, while Handle waits or works, and not after the lease was lost. Its
	// error is ignored: a message that is delivered again waits for the lease. Nil: it is not
	// called.
	Extend func(ctx context.Context) error
}

// extend calls m.Extend from time to time until stop is called, which waits for the last call.
func (m *Message) extend(ctx context.Context, every time.Duration) (stop func()) {
	if m.Extend == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				_ = m.Extend(ctx) // as documented
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
