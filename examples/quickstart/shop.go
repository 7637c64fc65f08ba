package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/redisidem/redisidem/redisidem"
)

// The recovery points of completing a cart. They lie between redisidem.Started and
// redisidem.Finished.
const (
	taxLinesCreated   = "tax_lines_created"
	paymentAuthorized = "payment_authorized"
)

type cart struct {
	ID  string `json:"id"`
	Net int    `json:"net_cents"`
}

type taxLines struct {
	Tax int `json:"tax_cents"`
}

type order struct {
	Cart  string `json:"cart"`
	Total int    `json:"total_cents"`
	Bank  string `json:"bank_reference"`
}

// request is what the key stands for: a retry must bring the same cart.
func (c cart) request() redisidem.Request {
	return redisidem.Request{Method: "POST", Path: "/carts/" + c.ID + "/complete", Params: c}
}

// checkout completes one cart for one request, in one worker. It may be lost at any moment: what a
// later worker needs is in the key's record.
type checkout struct {
	keys     *redisidem.Scope
	cart     cart
	bank     *bank
	powerCut bool // the worker dies between paying and noting it
	say      func(who, format string, args ...any)
}

// complete works on the key until there is an answer, from wherever an earlier worker left it.
func (c *checkout) complete(ctx context.Context, value string) (*redisidem.Key, error) {
	key, err := c.keys.InitializeRequest(ctx, value, c.cart.request())
	for err == nil && !key.Answered() {
		switch key.RecoveryPoint {
		case redisidem.Started:
			key, err = c.keys.WorkStage(ctx, key, c.createTaxLines)
		case taxLinesCreated:
			key, err = c.keys.WorkStage(ctx, key, c.authorizePayment)
		case paymentAuthorized:
			key, err = c.keys.WorkStage(ctx, key, c.placeOrder)
		default: // a newer version of this program knows it, perhaps
			err = redisidem.ErrUnknownRecoveryPoint
		}
	}
	return key, err
}

func (c *checkout) createTaxLines(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	lines := taxLines{Tax: c.cart.Net * 19 / 100}
	c.say(st.Key().RecoveryPoint, "attempt %d: %s net makes %s tax", st.Attempt(), euro(c.cart.Net), euro(lines.Tax))
	return redisidem.Advance(taxLinesCreated).WithState(lines), nil
}

func (c *checkout) authorizePayment(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	var lines taxLines
	if err := st.State(&lines); err != nil {
		return redisidem.Outcome{}, err
	}
	c.say(st.Key().RecoveryPoint, "attempt %d: finds the first stage's %s tax", st.Attempt(), euro(lines.Tax))

	// The bank gets a key of its own, the same in every run of this stage.
	total := c.cart.Net + lines.Tax
	reference, known := c.bank.reserve(st.OutboundKey("reserve"), total)
	if known {
		c.say("", "the bank knows this order already and reserves nothing more")
	} else {
		c.say("", "the bank reserves %s", euro(total))
	}
	if c.powerCut {
		panic("power cut")
	}
	result := order{Cart: c.cart.ID, Total: total, Bank: reference}
	return redisidem.Advance(paymentAuthorized).WithState(result), nil
}

func (c *checkout) placeOrder(_ context.Context, st *redisidem.Stage) (redisidem.Outcome, error) {
	var result order
	if err := st.State(&result); err != nil {
		return redisidem.Outcome{}, err
	}
	c.say(st.Key().RecoveryPoint, "attempt %d: places the order", st.Attempt())
	return redisidem.Finish(redisidem.JSON(200, result)), nil
}

// bank stands for a service elsewhere, which outlives the shop's workers and takes idempotency keys
// itself.
type bank struct {
	mu       sync.Mutex
	reserved map[string]int // what is reserved, by the callers' idempotency keys
}

// reserve reserves an amount, once for each key. It reports whether it knew the key.
func (b *bank) reserve(key string, amount int) (reference string, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, known = b.reserved[key]
	b.reserved[key] = amount
	return "bank-" + key[:8], known
}

func (b *bank) total() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := 0
	for _, amount := range b.reserved {
		sum += amount
	}
	return sum
}

func euro(cents int) string { return fmt.Sprintf("%d.%02d EUR", cents/100, cents%100) }
