package main

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/redisidem/redisidem/internal/nodetest"
)

// medusa is the stock client of Medusa. With retries it sends a fresh idempotency key with each
// call, without them none.
type medusa struct {
	*market
	client *nodetest.Client
}

// medusaAnswer is what became of a call.
type medusaAnswer struct {
	Status int `json:"status"`
	Value  struct {
		Cart struct {
			ID       string                      `json:"id"`
			Items    []struct{ Quantity int64 }  `json:"items"`
			Sessions []struct{ Provider string } `json:"payment_sessions"`
		} `json:"cart"`
		Type    string `json:"type"`
		Payment string `json:"payment_id"`
		More    string `json:"payment_status"`
		Data    struct {
			ID   string `json:"id"`
			Cart string `json:"cart_id"`
		} `json:"data"`
	} `json:"value"`
	Error string `json:"error"`
}

func newMedusa(m *market, retries int) *medusa {
	m.Helper()
	return &medusa{m, nodetest.Start(m, "testdata/medusa-js", m.url, strconv.Itoa(retries))}
}

func (c *medusa) call(method string, args ...any) (a medusaAnswer, err error) {
	if args == nil {
		args = []any{}
	}
	err = c.client.Call(map[string]any{"method": method, "args": args}, &a)
	return a, err
}

// must makes a call that the shop answers with that status.
func (c *medusa) must(status int, method string, args ...any) medusaAnswer {
	c.Helper()
	a, err := c.call(method, args...)
	if err != nil {
		c.Fatal(err)
	}
	if a.Status != status {
		c.Fatalf("%s: %+v, want %d", method, a, status)
	}
	return a
}

// fill makes a cart, as a storefront does.
func (c *medusa) fill(card string) string {
	c.Helper()
	cart := c.must(http.StatusOK, "carts.create").Value.Cart.ID
	c.must(http.StatusOK, "carts.lineItems.create", cart, map[string]any{"variant_id": "book", "quantity": 2})
	if a := c.must(http.StatusOK, "carts.createPaymentSessions", cart); len(a.Value.Cart.Sessions) == 0 {
		c.Fatal("the cart has no payment sessions")
	}
	c.choose(cart, card)
	if a := c.must(http.StatusOK, "carts.retrieve", cart); a.Value.Cart.ID != cart || len(a.Value.Cart.Items) != 1 || a.Value.Cart.Items[0].Quantity != 2 {
		c.Fatalf("the cart is %+v", a)
	}
	return cart
}

func (c *medusa) choose(cart, card string) {
	c.Helper()
	c.must(http.StatusOK, "carts.setPaymentSession", cart, map[string]any{"provider_id": card})
}

// orders completes a cart, and checks that it becomes an order that was charged for once.
func (c *medusa) orders(cart string) {
	c.Helper()
	if a := c.must(http.StatusOK, "carts.complete", cart); a.Value.Type != "order" || a.Value.Data.Cart != cart {
		c.Fatalf("the client got %+v", a)
	}
	c.ledger(cart, 1, 0, 1, 1)
}

// TestStockClientCompletesACart lets the client that storefronts use go from its first call to the
// order.
func TestStockClientCompletesACart(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{0, 3} {
		t.Run(fmt.Sprintf("retries=%d", retries), func(t *testing.T) {
			t.Parallel()
			c := newMedusa(newMarket(t, nil), retries)
			for range 2 {
				cart := c.fill(tokenOK)
				c.orders(cart)
				c.orders(cart) // with another key
			}

			cart := c.fill(tokenDecline)
			for range 2 {
				if a := c.must(http.StatusPaymentRequired, "carts.complete", cart); a.Value.Type != "payment_declined" {
					t.Errorf("the client got %+v", a)
				}
			}
			c.ledger(cart, 0, 0, 0, 0)
			c.choose(cart, tokenOK)
			c.orders(cart)
			c.must(http.StatusNotFound, "carts.retrieve", "cart_0")
		})
	}
}

func TestStockClientConfirmsAPayment(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{0, 3} {
		t.Run(fmt.Sprintf("retries=%d", retries), func(t *testing.T) {
			t.Parallel()
			c := newMedusa(newMarket(t, nil), retries)
			ask := func() (cart, payment string) {
				cart = c.fill(token3DS)
				for range 2 { // the storefront may look in between, with a key of its own each time
					a := c.must(http.StatusAccepted, "carts.complete", cart)
					if a.Value.Type != "cart" || a.Value.More != "requires_more" || a.Value.Data.ID != cart {
						t.Fatalf("the client got %+v", a)
					}
					payment = a.Value.Payment
				}
				return cart, payment
			}
			cart, payment := ask()
			if _, err := c.payments.confirm(t.Context(), payment); err != nil {
				t.Fatal(err)
			}
			c.orders(cart)

			cart, payment = ask()
			if _, err := c.payments.refuse(t.Context(), payment); err != nil {
				t.Fatal(err)
			}
			c.must(http.StatusPaymentRequired, "carts.complete", cart)
			c.choose(cart, tokenOK)
			c.orders(cart)
		})
	}
}

// TestStockClientsOnOneCart completes a cart from two windows: the second one comes while the first
// waits for the provider.
func TestStockClientsOnOneCart(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	first, second := newMedusa(m, 3), newMedusa(m, 20)
	cart := first.fill(tokenTimeout)
	done := make(chan medusaAnswer, 1)
	go func() {
		a, err := first.call("carts.complete", cart)
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	awaitCharge(t, m.provider, cart)
	second.orders(cart)
	if a := <-done; a.Status != http.StatusOK || a.Value.Type != "order" {
		t.Errorf("the first client got %+v", a)
	}
	m.ledger(cart, 1, 0, 1, 1)
}
