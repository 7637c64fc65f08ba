package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/redisidem/redisidem/redisidem"
	"github.com/redisidem/redisidem/redisidem/effect"
)

// The recovery points of a checkout between started and finished.
const (
	taxLinesCreated   = "tax_lines_created"
	paymentAuthorized = "payment_authorized"
)

// request is the stored part of the request to complete a cart. A process that continues the flow
// reads it.
type request struct {
	Cart string `json:"cart_id"`
}

// progress is the state that the stages pass on.
type progress struct {
	Cents   int64  `json:"cents"`
	Payment string `json:"payment,omitempty"`
	// Refused says that another key was completing the cart, and that the client was asked to come
	// back.
	Refused bool `json:"refused,omitempty"`
}

// patience is how long a client that was asked to come back has to do so. Later the flow does not
// buy anything for it.
const patience = 10 * time.Minute

// checkout completes carts.
type checkout struct {
	shop     *shop
	payments *payments
	// recoverAfter is how long clients have to come back before the completer continues without
	// them.
	recoverAfter time.Duration
	// crash is called in a shop when a payment uses tokenCrash.
	crash func()
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

// stageOf reads the stage's request and the progress of the stages before it.
func stageOf(st *redisidem.Stage) (c completion, p progress, err error) {
	var r request
	if err := json.Unmarshal(st.Key().Params, &r); err != nil {
		return c, p, err
	}
	if err := st.State(&p); err != nil && !errors.Is(err, redisidem.ErrNoState) {
		return c, p, err
	}
	return completion{cart: r.Cart, key: st.Key().ID(), fence: st.Fence()}, p, nil
}

// ordered is the answer of a completed cart.
func ordered(o order) redisidem.Outcome {
	return redisidem.Finish(redisidem.JSON(http.StatusOK, map[string]any{"type": "order", "data": o}))
}

// problem is an answer that ends a checkout without an order.
func problem(status int, kind, text string) redisidem.Outcome {
	return redisidem.Fail(redisidem.JSON(status, map[string]string{"type": kind, "message": text}))
}

// busy is the answer to a request for a cart that another key has.
func busy(text string) redisidem.Response {
	return redisidem.JSON(http.StatusConflict, map[string]string{"type": "cart_in_completion", "message": text})
}

func (c *checkout) createTaxLines(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	who, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	if key := st.Key(); p.Refused && key.LockedAt.Sub(key.UpdatedAt) > patience {
		return redisidem.Finish(busy("the cart was being completed by another request")), nil // there is nothing to undo
	}
	cents, payment, err := c.shop.begin(ctx, who)
	switch {
	case errors.Is(err, errUnknown):
		return problem(http.StatusNotFound, "not_found", "there is no such cart"), nil
	case errors.Is(err, errEmpty), errors.Is(err, errNoSession):
		return problem(http.StatusBadRequest, "invalid_data", err.Error()), nil
	case errors.Is(err, errCompleting):
		p.Refused = true
		return c.otherKey(ctx, redisidem.Started, who.cart, p)
	case err != nil:
		return redisidem.Outcome{}, err
	}
	return redisidem.Next().WithState(progress{Cents: cents, Payment: payment}), nil
}

// otherKey answers a request for a cart that another key has: with the order, if there is one
// already. So a client that makes a new key for each attempt is not charged twice, though it may
// have to ask more often. While the other key is still running the answer is not final, and this
// key stays open at its point.
func (c *checkout) otherKey(ctx context.Context, point, cart string, p progress) (redisidem.Outcome, error) {
	o, err := c.shop.orderOf(ctx, cart)
	switch {
	case errors.Is(err, errUnknown):
		r := busy("the cart is being completed by another request; try again later, with the same key")
		r.Header["Retry-After"] = []string{"1"}
		return redisidem.Interim(point, r).WithState(p), nil
	case err != nil:
		return redisidem.Outcome{}, err
	}
	return ordered(o), nil
}

// resume continues with a payment that the customer may have confirmed by now. Another key may have
// done so meanwhile.
func (c *checkout) resume(ctx context.Context, who completion, p progress) (redisidem.Outcome, error) {
	_, _, err := c.shop.begin(ctx, who)
	switch {
	case errors.Is(err, errCompleting):
		return c.otherKey(ctx, taxLinesCreated, who.cart, p)
	case err != nil:
		return redisidem.Outcome{}, err
	}
	asked, err := c.payments.byID(ctx, p.Payment)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	return c.paid(ctx, who, p, asked)
}

func (c *checkout) deleteTaxLines(ctx context.Context, st *redisidem.Stage) error {
	who, _, err := stageOf(st)
	if err != nil {
		return err
	}
	return c.shop.release(ctx, who)
}

func (c *checkout) authorizePayment(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	who, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	if p.Payment != "" { // the customer was asked to confirm, and is back
		return c.resume(ctx, who, p)
	}
	token, err := c.shop.paymentToken(ctx, who.cart)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	// The key is the same in each run of this stage, on any machine: the provider charges once. The
	// fence lets it refuse a worker that was silent for so long that another one has taken over.
	made, err := c.payments.charge(ctx, charge{
		Key: st.OutboundKey("charge"), Fence: who.fence, FenceOf: who.key, Order: who.cart, Token: token, Cents: p.Cents,
	})
	if err != nil {
		return redisidem.Outcome{}, err
	}
	if token == tokenCrash && st.Attempt() == 1 {
		c.crash()
	}
	return c.paid(ctx, who, p, made)
}

// findPayment asks the provider for the payment of an earlier attempt.
func (c *checkout) findPayment(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	who, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	if p.Payment != "" {
		return redisidem.Outcome{}, redisidem.ErrNothingDone // asking again for its state does no harm
	}
	found, err := c.payments.byKey(ctx, st.OutboundKey("charge"))
	switch {
	case errors.Is(err, errNoPayment):
		return redisidem.Outcome{}, redisidem.ErrNothingDone
	case err != nil:
		return redisidem.Outcome{}, err
	}
	p.Payment = found.ID
	return c.resume(ctx, who, p)
}

// paid returns the outcome after a payment.
func (c *checkout) paid(ctx context.Context, who completion, p progress, made payment) (redisidem.Outcome, error) {
	p.Payment = made.ID
	switch made.State {
	case stateCharged:
		return redisidem.Next().WithState(p), nil
	case stateConfirm:
		// This caller gets an answer, and the key stays open: the next request continues here,
		// whether with this key or another.
		if err := c.shop.await(ctx, who, made.ID); err != nil {
			return redisidem.Outcome{}, err
		}
		cart, err := c.shop.cart(ctx, who.cart)
		if err != nil {
			return redisidem.Outcome{}, err
		}
		return redisidem.Interim(taxLinesCreated, redisidem.JSON(http.StatusOK, map[string]any{
			"type": "cart", "data": cart, "payment_status": "requires_more", "payment_id": made.ID,
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
	who, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	o, err := c.shop.createOrder(ctx, who, p.Payment, p.Cents)
	switch {
	case errors.Is(err, errSoldOut):
		return problem(http.StatusConflict, "insufficient_inventory", err.Error()), nil
	case err != nil:
		return redisidem.Outcome{}, err
	}
	// The event is in the outbox exactly when this answer is stored: both are written in one step.
	// Trimmed events are lost, read or not, so the bound is far above the events of one of 1024
	// outboxes while no relay runs.
	return ordered(o).WithEffects(
		effect.XAdd(st.ShardKey(outbox), "event", "order.placed", "order", o.ID, "cart", o.Cart).MaxLen(10_000)), nil
}
