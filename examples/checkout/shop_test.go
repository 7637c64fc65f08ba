package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
)

// openStore opens a shop's database so many times, as so many processes would.
func openStore(t *testing.T, processes int) []*shop {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop.db")
	shops := make([]*shop, processes)
	for i := range shops {
		s, err := openShop(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.close(); err != nil {
				t.Error(err)
			}
		})
		shops[i] = s
	}
	return shops
}

// fillCart makes a cart.
func fillCart(t *testing.T, s *shop, variant string, quantity int64) string {
	t.Helper()
	cart, err := s.createCart(t.Context())
	if err == nil {
		err = s.addItem(t.Context(), cart, variant, quantity)
	}
	if err == nil {
		err = s.choosePayment(t.Context(), cart, tokenOK)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cart
}

// stock returns how many of something are left.
func stock(t *testing.T, s *shop, variant string) (n int64) {
	t.Helper()
	if err := s.db.QueryRowContext(t.Context(), "SELECT stock FROM products WHERE variant = ?", variant).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestStagesCanBeRepeated(t *testing.T) {
	t.Parallel()
	s := openStore(t, 1)[0]
	before := stock(t, s, "book")
	cart := fillCart(t, s, "book", 2)
	for fence := range int64(3) {
		cents, _, err := s.begin(t.Context(), completion{cart, "key", fence})
		if err != nil || cents != 4522 {
			t.Fatal(cents, err)
		}
	}
	var first order
	for fence := range int64(3) {
		o, err := s.createOrder(t.Context(), completion{cart, "key", 2 + fence}, "pay_"+fmt.Sprint(fence), 4522)
		if err != nil || fence > 0 && o != first {
			t.Fatal(o, err, first)
		}
		first = o
	}
	if left := stock(t, s, "book"); left != before-2 {
		t.Errorf("%d books are left of %d", left, before)
	}
	if counts, err := s.counts(t.Context(), cart); err != nil || counts["orders"] != 1 || counts["tax_lines"] != 1 {
		t.Error(counts, err)
	}

	other := fillCart(t, s, "book", 1)
	if _, _, err := s.begin(t.Context(), completion{other, "key", 1}); err != nil {
		t.Fatal(err)
	}
	for fence := range int64(3) {
		if err := s.release(t.Context(), completion{other, "key", 1 + fence}); err != nil {
			t.Fatal(err)
		}
	}
	if counts, err := s.counts(t.Context(), other); err != nil || counts["orders"] != 0 || counts["tax_lines"] != 0 {
		t.Error(counts, err)
	}
}

func TestWorkersThatAreLateAreRefused(t *testing.T) {
	t.Parallel()
	s := openStore(t, 1)[0]
	cart := fillCart(t, s, "unicorn", 1)
	early, late := completion{cart, "key", 1}, completion{cart, "key", 2}
	if _, _, err := s.begin(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.begin(t.Context(), early); !errors.Is(err, errSuperseded) {
		t.Error(err)
	}
	if err := s.release(t.Context(), early); !errors.Is(err, errSuperseded) {
		t.Error(err)
	}
	if _, err := s.createOrder(t.Context(), early, "pay", 1); !errors.Is(err, errSuperseded) {
		t.Error(err)
	}

	// A later worker finds the unicorns sold out, and is about to void the payment. There is one
	// again, and the early one wakes up.
	later := completion{cart, "key", 3}
	if _, err := s.createOrder(t.Context(), later, "pay", 1); !errors.Is(err, errSoldOut) {
		t.Fatal(err)
	}
	if _, err := s.db.ExecContext(t.Context(), "UPDATE products SET stock = 1 WHERE variant = 'unicorn'"); err != nil {
		t.Fatal(err)
	}
	if o, err := s.createOrder(t.Context(), late, "pay", 1); !errors.Is(err, errSuperseded) {
		t.Error(o, err)
	}
	if err := s.release(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.begin(t.Context(), late); !errors.Is(err, errSuperseded) {
		t.Error("the cart is taken again:", err)
	}
}

func TestReleaseLeavesTheNextKeyAlone(t *testing.T) {
	t.Parallel()
	s := openStore(t, 1)[0]
	cart := fillCart(t, s, "book", 1)
	first, second := completion{cart, "first", 5}, completion{cart, "second", 1} // fences of two keys say nothing about each other
	if _, _, err := s.begin(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.begin(t.Context(), second); !errors.Is(err, errCompleting) {
		t.Error(err)
	}
	if err := s.release(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.begin(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if err := s.release(t.Context(), completion{cart, "first", 6}); err != nil {
		t.Fatal(err)
	}
	if counts, err := s.counts(t.Context(), cart); err != nil || counts["tax_lines"] != 1 {
		t.Error("the second key's tax line is gone:", counts, err)
	}
	if err := s.addItem(t.Context(), cart, "lamp", 1); !errors.Is(err, errCompleting) {
		t.Error(err)
	}
}

func TestLastOneIsSoldOnce(t *testing.T) {
	t.Parallel()
	shops := openStore(t, 4)
	if _, err := shops[0].db.ExecContext(t.Context(), "UPDATE products SET stock = 1 WHERE variant = 'unicorn'"); err != nil {
		t.Fatal(err)
	}
	carts := make([]string, len(shops))
	for i := range carts {
		carts[i] = fillCart(t, shops[0], "unicorn", 1)
	}
	errs := make([]error, len(shops))
	var wg sync.WaitGroup
	for i, s := range shops {
		wg.Go(func() {
			c := completion{carts[i], "key", 1}
			if _, _, errs[i] = s.begin(t.Context(), c); errs[i] == nil {
				_, errs[i] = s.createOrder(t.Context(), c, "pay", 1)
			}
		})
	}
	wg.Wait()
	sold := 0
	for _, err := range errs {
		if err == nil {
			sold++
		} else if !errors.Is(err, errSoldOut) {
			t.Error(err)
		}
	}
	if sold != 1 || stock(t, shops[0], "unicorn") != 0 {
		t.Errorf("%d sold, %d left", sold, stock(t, shops[0], "unicorn"))
	}
}

func TestOneKeyGetsTheCart(t *testing.T) {
	t.Parallel()
	shops := openStore(t, 4)
	cart := fillCart(t, shops[0], "book", 1)
	errs := make([]error, len(shops))
	var wg sync.WaitGroup
	for i, s := range shops {
		wg.Go(func() { _, _, errs[i] = s.begin(t.Context(), completion{cart, fmt.Sprint("key-", i), int64(i)}) })
	}
	wg.Wait()
	begun := 0
	for _, err := range errs {
		if err == nil {
			begun++
		} else if !errors.Is(err, errCompleting) {
			t.Error(err)
		}
	}
	if begun != 1 {
		t.Errorf("%d keys got the cart", begun)
	}
}

func TestDatabaseThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	if _, err := openShop(t.Context(), filepath.Join(t.TempDir(), "no such directory", "shop.db")); err == nil {
		t.Error("it was opened")
	}
}
