package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

// mails returns how many e-mails went out for a cart.
func (m *market) mails(cart string) int64 {
	m.Helper()
	counts, err := m.shop.counts(m.Context(), cart)
	if err != nil {
		m.Fatal(err)
	}
	return counts["mails"]
}

func TestOrderIsMailedOnce(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	client := m.redis.Client()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	open := func(name string) *relay {
		r := newRelay(client, m.shop, name, m.service.Config().Namespace)
		must(r.join(t.Context()))
		return r
	}
	first := m.fill(tokenOK, "book")
	m.complete(first, "early") // before there is a group
	relays := []*relay{open("one"), open("two"), open("two")}
	second := m.fill(tokenOK, "lamp")
	m.complete(second, "after")
	declined := m.fill(tokenDecline, "book")
	m.complete(declined, "key")
	for _, r := range relays {
		must(r.receive(t.Context(), 10*time.Millisecond))
	}
	for cart, want := range map[string]int64{first: 1, second: 1, declined: 0} {
		if got := m.mails(cart); got != want {
			t.Errorf("%d mails, want %d", got, want)
		}
	}

	// A relay that dies between the e-mail and its acknowledgement, and one that dies before the
	// e-mail.
	third := m.fill(tokenOK, "book")
	m.complete(third, "key")
	fourth := m.fill(tokenOK, "book")
	m.complete(fourth, "key")
	taken, err := open("doomed").take(t.Context(), 10*time.Millisecond)
	must(err)
	if len(taken) != 2 {
		t.Fatal(taken)
	}
	must(m.shop.sendMail(t.Context(), "order.placed order_"+strings.TrimPrefix(third, "cart_"), third, "before the crash"))
	must(relays[0].receive(t.Context(), 10*time.Millisecond)) // they are not new any more
	must(relays[0].inherit(t.Context()))                      // and not old enough
	if got := m.mails(fourth); got != 0 {
		t.Errorf("%d mails, before the dead relay is noticed", got)
	}
	m.redis.FastForward(abandoned + time.Second)
	must(relays[1].inherit(t.Context()))
	for _, cart := range []string{third, fourth} {
		if got := m.mails(cart); got != 1 {
			t.Errorf("%d mails after a crash", got)
		}
	}
	for _, stream := range relays[0].streams {
		if p, err := client.XPending(t.Context(), stream, relayGroup).Result(); err != nil || p.Count != 0 {
			t.Error(stream, p, err)
		}
	}
}

func TestRelayGoesOnWhenRedisHasForgotten(t *testing.T) {
	t.Parallel()
	m := newMarket(t, nil)
	client := m.redis.Client()
	r := newRelay(client, m.shop, "relay", m.service.Config().Namespace)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.run(ctx)
	}()
	defer func() {
		stop()
		<-ended
	}()
	for i := range 2 {
		cart := m.fill(tokenOK, "book")
		m.complete(cart, "key")
		for deadline := time.Now().Add(20 * time.Second); m.mails(cart) != 1; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("cart %d: %d mails", i, m.mails(cart))
			}
		}
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}
