package watermillidem_test

import (
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/redisidem/redisidem/contrib/watermillidem"
	"github.com/redisidem/redisidem/redisidem"
)

var _ = page

// page has the block of docs/consumer.md. It is compiled only: the example runs a router.
func page(svc *redisidem.Service, router *message.Router, publisher message.Publisher) error {
	idem, err := watermillidem.New(svc, "billing", &watermillidem.Config{DeadLetters: publisher, DeadLetterTopic: "dead"})
	if err != nil {
		return err
	}
	router.AddMiddleware(idem.Middleware)
	return nil
}
