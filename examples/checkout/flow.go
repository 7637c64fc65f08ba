package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
)

// The recovery points of a checkout between started and finished.
const (
	taxLinesCreated   = "tax_lines_created"
	paymentRequested  = "payment_requested"
	paymentAuthorized = "payment_authorized"
	otherKeyFound     = "other_key_found" // the cart has another holder
)

// chargeName is the name of the outbound key of the charge.
const chargeName = "charge"

// request is the stored part of the request to complete a cart. A process that continues the flow
// reads it.
type request struct {
	Cart string `json:"cart_id"`
}

// progress is the state that the stages pass on.
type progress struct {
	Token   string `json:"token,omitempty"`
	Cents   int64  `json:"cents,omitempty"`
	Payment string `json:"payment,omitempty"`
	Holder  string `json:"holder,omitempty"` // the other key
}

// checkout completes carts.
type checkout struct {
	service  *redisidem.Service
	shop     *shop
	payments *payments
	flow     *redisidem.Flow

	// recoverAfter is how long clients have to come back before the completer continues without
	// them, and confirmWithin how long a cart may take, with the time that its customer needs to
	// confirm the payment. The provider is asked each askEvery whether the customer has.
	recoverAfter, confirmWithin, askEvery time.Duration
	// crash is called in a shop when a payment uses tokenCrash.
	crash func()
}

// newFlow makes the completion of a cart. The stages that only change the shop's tables are SQL
// transactions. Calls of the payment provider are in stages of their own.
func (c *checkout) newFlow() (*redisidem.Flow, error) {
	tables := c.shop.store
	return redisidem.NewFlow(redisidem.FlowConfig{
		Name: "cart_completion", Version: 1, RecoverAfter: c.recoverAfter, Deadline: c.confirmWithin, FailWith: c.calledOff,
		// An attempt takes more than a millisecond, so the deadline comes before a dead letter,
		// however often a client retries. A dead letter would hold the cart.
		MaxAttempts: max(redisidem.DefaultMaxAttempts, int(c.confirmWithin/time.Millisecond)),
		Stages: []redisidem.FlowStage{
			tables.FlowStage(redisidem.FlowStage{
				Point: redisidem.Started, Next: []string{taxLinesCreated, otherKeyFound},
			}, c.createTaxLines, c.deleteTaxLines),
			{
				// Without Reconcile: a charge that the provider does not have yet may still be
				// under way. A checkout that fails here voids the payment of an open attempt, too.
				Point: taxLinesCreated, Work: c.requestPayment, Compensate: c.voidPayment, CompensateFailed: true,
				Timeout: 2 * time.Second, Retry: redisidem.Retry{Attempts: 3, If: func(error) bool { return true }},
			},
			{Point: paymentRequested, Work: c.awaitPayment},
			tables.FlowStage(redisidem.FlowStage{
				Point: paymentAuthorized, Next: []string{redisidem.Finished}, Retry: redisidem.Retry{Attempts: 3},
			}, c.createOrder, nil),
			{Point: otherKeyFound, Work: c.join},
		},
	})
}

// stageOf reads the stage's request and the progress of the stages before it.
func stageOf(st *redisidem.Stage) (cart string, p progress, err error) {
	var r request
	if err := json.Unmarshal(st.Key().Params, &r); err != nil {
		return "", p, err
	}
	if err := st.State(&p); err != nil && !errors.Is(err, redisidem.ErrNoState) {
		return "", p, err
	}
	return r.Cart, p, nil
}

// orderAnswer is the answer of a completed cart.
func orderAnswer(o order) redisidem.Response {
	return redisidem.JSON(http.StatusOK, map[string]any{"type": "order", "data": o})
}

// ordered is the outcome of a completed cart.
func ordered(o order) redisidem.Outcome { return redisidem.Finish(orderAnswer(o)) }

// problem is an answer without an order.
func problem(status int, kind, text string) redisidem.Response {
	return redisidem.JSON(status, map[string]string{"type": kind, "message": text})
}

// calledOff is the answer of a cart whose customer has withdrawn, or has not confirmed in time. A
// key that has joined another one may be late, and the cart may have its order.
func (c *checkout) calledOff(st *redisidem.Stage, cause error) redisidem.Response {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cart, _, err := stageOf(st)
	var o order
	if err == nil {
		o, err = orderOf(ctx, c.shop.db, cart)
	}
	switch {
	case err == nil:
		return orderAnswer(o)
	case !errors.Is(err, errUnknown):
		return problem(http.StatusGone, "ended", "this key has ended; complete the cart with a new key to see whether it has an order")
	case errors.Is(cause, redisidem.ErrCanceled):
		return problem(http.StatusGone, "withdrawn", "the customer has withdrawn")
	}
	return problem(http.StatusGone, "expired", "the payment was not confirmed in time")
}

// createTaxLines makes this key the holder of the cart. A cart is paid once, whatever keys its
// client makes up: an order that exists is the answer, and another holder goes first.
func (c *checkout) createTaxLines(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
	cart, _, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	if o, err := orderOf(ctx, tx, cart); !errors.Is(err, errUnknown) {
		return ordered(o), err
	}
	holder, token, cents, err := c.shop.hold(ctx, tx, cart, st.Key().Value)
	switch {
	case errors.Is(err, errUnknown):
		return redisidem.Fail(problem(http.StatusNotFound, "not_found", "there is no such cart")), nil
	case errors.Is(err, errEmpty), errors.Is(err, errNoSession):
		return redisidem.Fail(problem(http.StatusBadRequest, "invalid_data", err.Error())), nil
	case err != nil:
		return redisidem.Outcome{}, err
	case holder != st.Key().Value:
		return redisidem.Advance(otherKeyFound).WithState(progress{Holder: holder}), nil
	}
	return redisidem.Advance(taxLinesCreated).WithState(progress{Token: token, Cents: cents}), nil
}

func (c *checkout) deleteTaxLines(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) error {
	cart, _, err := stageOf(st)
	if err != nil {
		return err
	}
	return c.shop.release(ctx, tx, cart, st.Key().Value)
}

// chargeOf is the charge of a cart. Its key is the same in each run of the stage, on any machine:
// the provider charges once. The fence lets it refuse a worker that was silent for so long that
// another one has taken over. It is the same for all runs under one lease, so it does not stop a
// charge of an earlier run that is still under way. Only voidPayment does.
func chargeOf(st *redisidem.Stage) (charge, progress, error) {
	cart, p, err := stageOf(st)
	return charge{
		Key: st.OutboundKey(chargeName), Fence: st.Fence(), FenceOf: st.Key().ID(), Order: cart, Token: p.Token, Cents: p.Cents,
	}, p, err
}

// released is the outcome of a key that does not hold its cart any more. A failover of Redis may
// take a key back to a stage behind its first one, which was undone since.
func released() redisidem.Outcome {
	return redisidem.Fail(problem(http.StatusConflict, "cart_released", "this key does not hold the cart any more; complete it with a new key"))
}

// requestPayment charges for a cart, if this key holds it. After an attempt that was not committed
// it first asks the provider for the payment, so that a provider that charges and does not answer
// is not asked to charge again.
func (c *checkout) requestPayment(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	ask, p, err := chargeOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	switch holder, err := c.shop.holder(ctx, ask.Order); {
	case err != nil && !errors.Is(err, errNotCompleting):
		return redisidem.Outcome{}, err
	case holder != st.Key().Value:
		return released(), nil
	}
	made, err := payment{}, errNoPayment
	if st.Attempt() > 1 {
		made, err = c.payments.find(ctx, ask)
	}
	if errors.Is(err, errNoPayment) {
		made, err = c.payments.charge(ctx, ask)
	}
	if err != nil {
		return redisidem.Outcome{}, err
	}
	if p.Token == tokenCrash && st.Attempt() == 1 {
		c.crash()
	}
	p.Payment = made.ID
	return redisidem.Next().WithState(p), nil
}

// voidPayment calls off the charge of the run that is undone. The provider may not have it yet, and
// then never charges for it. The payment of an order stays: a key that begins again after Redis has
// lost it may be undone, and its order not.
func (c *checkout) voidPayment(ctx context.Context, st *redisidem.Stage) error {
	ask, p, err := chargeOf(st)
	if err != nil {
		return err
	}
	if keep, err := c.isOrders(ctx, ask.Order, p.Payment, st.Key().Value); keep || err != nil {
		return err
	}
	ask.Key = st.CommittedKey(st.Compensates(), chargeName)
	_, err = c.payments.void(ctx, ask)
	return err
}

// isOrders reports whether a payment is that of the cart's order. A payment whose ID was not stored
// is, if its key holds the cart: only the holder makes the order.
func (c *checkout) isOrders(ctx context.Context, cart, payment, key string) (bool, error) {
	o, err := orderOf(ctx, c.shop.db, cart)
	switch {
	case errors.Is(err, errUnknown):
		return false, nil
	case err != nil, payment != "":
		return o.Payment == payment, err
	}
	holder, err := c.shop.holder(ctx, cart)
	return holder == key, err
}

// awaitPayment asks the provider for the state of the payment. Until the customer has confirmed it,
// clients get an interim answer. Each call with the key asks the provider again, and the completer
// does so without a call.
func (c *checkout) awaitPayment(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	id, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	made, err := c.payments.byID(ctx, p.Payment)
	switch {
	case err != nil:
		return redisidem.Outcome{}, err
	case made.State == stateCharged:
		return redisidem.Next(), nil
	case made.State != stateConfirm:
		return redisidem.Fail(problem(http.StatusPaymentRequired, "payment_declined", "the payment was declined")), nil
	}
	cart, err := c.shop.cart(ctx, id)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	return redisidem.Snooze(c.askEvery, redisidem.JSON(http.StatusAccepted, map[string]any{
		"type": "cart", "data": cart, "payment_status": "requires_more", "payment_id": made.ID, "confirm_at": c.payments.confirmURL(made.ID),
	})).UntilCalled(), nil
}

// createOrder makes the order, and the event that sends its e-mail, in one transaction. A payment
// that is not the order's is voided.
func (c *checkout) createOrder(ctx context.Context, tx *sql.Tx, st *redisidem.Stage) (redisidem.Outcome, error) {
	cart, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	// An operator may have deleted the key while a worker made the order.
	if o, err := orderOf(ctx, tx, cart); !errors.Is(err, errUnknown) {
		return redisidem.Fail(orderAnswer(o)), err
	}
	switch holder, _, err := lockCart(ctx, tx, cart); {
	case err != nil:
		return redisidem.Outcome{}, err
	case holder != st.Key().Value:
		return released(), nil
	}
	o, err := c.shop.createOrder(ctx, tx, cart, p.Payment, p.Cents)
	switch {
	case errors.Is(err, errSoldOut):
		return redisidem.Fail(problem(http.StatusConflict, "insufficient_inventory", err.Error())), nil
	case err != nil:
		return redisidem.Outcome{}, err
	}
	event, err := json.Marshal(o)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	return ordered(o), c.shop.store.Publish(ctx, tx, st, sqlidem.Event{Topic: orderPlaced, Payload: event})
}

// join continues the flow of the key that holds the cart, and passes its answer on. So a client
// that makes a new key for each attempt is not charged twice, and such a key never buys anything by
// itself, however late it is used.
func (c *checkout) join(ctx context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	cart, p, err := stageOf(st)
	if err != nil {
		return redisidem.Outcome{}, err
	}
	scope := c.service.Scope(cart)
	key, err := scope.Retrieve(ctx, p.Holder)
	if err == nil {
		key, err = scope.WorkFlow(ctx, key, c.flow)
	}
	var answer redisidem.Response
	switch {
	case errors.Is(err, redisidem.ErrNotFound): // Redis has lost it: only that key can go on
		if o, err := orderOf(ctx, c.shop.db, cart); !errors.Is(err, errUnknown) {
			return ordered(o), err
		}
		return redisidem.Finish(problem(http.StatusConflict, "cart_in_completion", "the cart is held by another key, which has no answer")), nil
	case errors.Is(err, redisidem.ErrLocked):
		answer = problem(http.StatusConflict, "cart_in_completion", "the cart is being completed with another key; try again later")
		answer.Header["Retry-After"] = []string{"1"}
	case err != nil:
		return redisidem.Outcome{}, err
	case key.Finished():
		return redisidem.Finish(*key.Response), nil
	default:
		answer = *key.Response
	}
	return redisidem.Snooze(time.Minute, answer).UntilCalled(), nil
}

// withdraw calls off the completion of a cart. Its stages are undone by the completer, or by the
// next call with the key. It returns errNotCompleting and errTooLate.
func (c *checkout) withdraw(ctx context.Context, cart string) error {
	holder, err := c.shop.holder(ctx, cart)
	if err != nil {
		return err
	}
	err = c.service.Scope(cart).Cancel(ctx, holder)
	switch {
	case errors.Is(err, redisidem.ErrTooLate):
		return errTooLate
	case errors.Is(err, redisidem.ErrNotFound): // Redis has lost the key
		return errNotCompleting
	}
	return err
}
