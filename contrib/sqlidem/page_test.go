package sqlidem_test

import (
	"context"
	"database/sql"
	"strconv"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
)

// These functions have the blocks of docs/sql.md. They are compiled only: their table orders does
// not exist.

var _, _ = pageStage, pageRelay

//nolint:ineffassign,staticcheck,wastedassign // the page leaves checks of errors out
func pageStage(ctx context.Context, svc *redisidem.Service, db *sql.DB, customer, idempotencyKey string, request redisidem.Request, order any) (*redisidem.Key, error) {
	store, err := sqlidem.New(db, sqlidem.Config{Dialect: sqlidem.PostgreSQL})
	err = store.Migrate(ctx)

	placeOrder := store.Stage(func(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
		_, err := tx.ExecContext(ctx, "INSERT INTO orders ...")
		return redisidem.Finish(redisidem.JSON(201, order)), err
	})
	key, err := svc.Scope(customer).Do(ctx, idempotencyKey, request, placeOrder)
	return key, err
}

func pageRelay(ctx context.Context, store *sqlidem.Store, broker interface {
	Publish(ctx context.Context, topic, id string, payload []byte) error
},
) error {
	relay, err := store.NewRelay(sqlidem.RelayConfig{Publish: func(ctx context.Context, e sqlidem.Event) error {
		return broker.Publish(ctx, e.Topic, strconv.FormatInt(e.ID, 10), e.Payload)
	}})
	go relay.Run(ctx)
	return err
}
