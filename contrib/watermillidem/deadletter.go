package watermillidem

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/redisidem/redisidem/redisidem/consumer"
)

// deadLetter returns the function that publishes a message which cannot be handled. Watermill's
// PoisonQueue does the work, so that tools that know its metadata can be used.
func deadLetter(publisher message.Publisher, topic string) (func(context.Context, consumer.Message, error) error, error) {
	queue, err := middleware.PoisonQueue(publisher, topic)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ consumer.Message, cause error) error {
		letter := Message(ctx).Copy() // the handler's own has no metadata of a dead letter
		letter.SetContext(ctx)
		_, err := queue(func(*message.Message) ([]*message.Message, error) { return nil, cause })(letter)
		return err
	}, nil
}
