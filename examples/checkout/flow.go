package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/redisidem/redisidem/redisidem"
)

// The recovery points of a checkout between started and finished.
const (
	taxLinesCreated   = "tax_lines_created"
	paymentAuthorized = "payment_authorized"
)

// completion is what is stored of the request to complete a cart.
type completion struct {
	Cart string `json:"cart_id"`
}

// progress is what the stages hand on.
type progress struct {
	Cents   int64  `json:"cents"`
	Payment string `json:"payment,omitempty"`
}

// checkout completes carts.
type checkout struct {
	shop     *shop
	payments *payments
	// recoverAfter is how long clients have to come back before the completer goes on without them.
	recoverAfter time.Duration
}

// flow is the completion of a cart.
func (c *checkout) flow() (*redisidem.Flow, error) {
	return redisidem.NewFlow(redisidem.FlowConfig{
		Name: "cart_completion", Version: 1, RecoverAfter: c.recoverAfter,
		Stages: []redisidem.FlowStage{
			{Point: redisidem.Started, Work: c.createTaxLines, Compensate: c.deleteTaxLines},
			{
				Point: taxLinesCreated, Work: c.authorizePayment, Reconcile: c.findPayment, Compensate: c.voidPayment,
				Timeout: 2 * time.Second, Retry: redisidem.Retry{Attempts: 3},
			},
			{Point: paymentAuthorized, Work: c.createOrder},
		},
	})
}

// stageOf reads what a stage needs to know.
func stageOf(st *redisidem.Stage) (cart string, p progress, err error) {
	var request completion
	if err := json.Unmarshal(st.Key().Params, &request); err != nil {
		return "", p, err
	}
	if err := st.State(&p); err != nil && !errors.Is(err, redisidem.ErrNoState) {
		return "", p, err
	}
	return request.Cart, p, nil
}

// problem is an answer that ends a checkout without an order.
func problem(status int, kind, text string) redisidem.Outcome {
	return redisidem.Fail(redisidem.JSON(status, map[string]string{"type": kind, "message": text}))
}

func (c *checkout) createTaxLines(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	cart, _, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	cents, _, err := c.shop.total(ctx, cart)
	switch {
	case errors.Is(err, errUnknown):
		return problem(http.StatusNotFound, "not_found", "there is no such cart"), nil
	case err != nil:
		return redisidem.Outcome{}, err
	case cents == 0:
		return problem(http.StatusBadRequest, "invalid_data", "the cart is empty"), nil
	}
	tax := cents * 19 / 100
	if err := c.shop.createTaxLine(ctx, cart, tax); err != nil {
		return redisidem.Outcome{}, err
	}
	return redisidem.Next().WithState(progress{Cents: cents + tax}), nil
}

func (c *checkout) deleteTaxLines(ctx context.Context, st *redisidem.Stage) error {
	cart, _, err := stageOf(st)
	if err != nil {
		return err
	}
	return c.shop.deleteTaxLine(ctx, cart)
}

func (c *checkout) authorizePayment(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	cart, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	if p.Payment != "" { // the customer was asked to confirm, and is back
		found, err := c.payments.byID(ctx, p.Payment)
		if err != nil {
			return redisidem.Outcome{}, err
		}
		return c.paid(p, found)
	}
	_, token, err := c.shop.total(ctx, cart)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	// The key is the same in each run of this stage, on any machine: the provider charges once. The fence lets it refuse a worker
	// that was silent for so long that another one has taken over.
	made, err := c.payments.charge(ctx, charge{
		Key: st.OutboundKey("charge"), Fence: st.Fence(), Order: cart, Token: token, Cents: p.Cents,
	})
	if err != nil {
		return redisidem.Outcome{}, err
	}
	if token == tokenCrash && st.Attempt() == 1 {
		die()
	}
	return c.paid(p, made)
}

// findPayment asks the provider what became of an earlier attempt.
func (c *checkout) findPayment(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	_, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	if p.Payment != "" {
		return redisidem.Outcome{}, redisidem.ErrNotDone // asking again for its state does no harm
	}
	found, err := c.payments.byKey(ctx, st.OutboundKey("charge"))
	switch {
	case errors.Is(err, errNoPayment):
		return redisidem.Outcome{}, redisidem.ErrNotDone
	case err != nil:
		return redisidem.Outcome{}, err
	}
	return c.paid(p, found)
}

// paid says what comes after a payment.
func (c *checkout) paid(p progress, made payment) (redisidem.Outcome, error) {
	p.Payment = made.ID
	switch made.State {
	case stateCharged:
		return redisidem.Next().WithState(p), nil
	case stateConfirm:
		// This caller gets an answer, and the key stays open: the next request continues here.
		return redisidem.Interim(taxLinesCreated, redisidem.JSON(http.StatusOK, map[string]any{
			"type": "cart", "payment_status": "requires_more", "payment_id": made.ID,
		})).WithState(p), nil
	}
	return problem(http.StatusPaymentRequired, "payment_declined", "the payment was declined"), nil
}

func (c *checkout) voidPayment(ctx context.Context, st *redisidem.Stage) error {
	_, p, err := stageOf(st)
	if err != nil || p.Payment == "" {
		return err
	}
	_, err = c.payments.void(ctx, p.Payment)
	return err
}

func (c *checkout) createOrder(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	cart, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	there, err := c.shop.inStock(ctx, cart)
	switch {
	case err != nil:
		return redisidem.Outcome{}, err
	case !there:
		return problem(http.StatusConflict, "insufficient_inventory", "something was sold out meanwhile"), nil
	}
	o, err := c.shop.createOrder(ctx, cart, p.Payment, p.Cents)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	// The event is in the outbox exactly when the order is in the answer: both are written in one step.
	return redisidem.Finish(redisidem.JSON(http.StatusOK, map[string]any{"type": "order", "data": o})).
		WithEffects(redisidem.XAdd(st.ShardKey(outbox), "event", "order.placed", "order", o.ID, "cart", cart).MaxLen(10_000)), nil
}
