package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
)

// orderPlaced is the topic of the event that an order was made.
const orderPlaced = "order.placed"

// newRelay makes a relay that sends an e-mail for each event of the outbox. An event can come more
// than once. Its e-mail is sent once, because it has the event's number.
func newRelay(s *shop, log *slog.Logger) (*sqlidem.Relay, error) {
	return s.store.NewRelay(sqlidem.RelayConfig{
		Lease: 5 * time.Second, Logger: log,
		Publish: func(ctx context.Context, e sqlidem.Event) error {
			var o order
			if err := json.Unmarshal(e.Payload, &o); err != nil {
				return err
			}
			return s.sendMail(ctx, e.ID, o.Cart, "Thank you for your order "+o.ID+".")
		},
	})
}
