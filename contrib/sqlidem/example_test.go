package sqlidem_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	_ "modernc.org/sqlite" // the driver

	"github.com/redisidem/redisidem/contrib/sqlidem"
	"github.com/redisidem/redisidem/redisidem"
)

// An order is in the database once, although Redis loses all of its data before the client asks
// again.
func Example() {
	ctx := context.Background()
	server, err := miniredis.Run()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	svc, err := redisidem.OpenUnchecked("redis://"+server.Addr(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = svc.Close(ctx) }()

	db, err := sql.Open("sqlite", "file:example?mode=memory&cache=shared")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close() }()
	// One connection, because the tables of a shared cache in memory are locked without any wait. A
	// database in a file needs busy_timeout instead: "file:shop.db?_pragma=busy_timeout(10000)".
	db.SetMaxOpenConns(1)
	store, err := sqlidem.New(db, sqlidem.Config{Dialect: sqlidem.SQLite})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := store.Migrate(ctx); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := db.ExecContext(ctx, "CREATE TABLE orders (number INTEGER PRIMARY KEY, item TEXT)"); err != nil {
		fmt.Println(err)
		return
	}

	placeOrder := store.Stage(func(ctx context.Context, tx *sql.Tx, _ *redisidem.Stage) (redisidem.Outcome, error) {
		r, err := tx.ExecContext(ctx, "INSERT INTO orders (item) VALUES ('book')")
		if err != nil {
			return redisidem.Outcome{}, err
		}
		number, err := r.LastInsertId()
		return redisidem.Finish(redisidem.JSON(201, map[string]int64{"order": number})), err
	})
	order := func() {
		key, err := svc.Scope("customer 7").Do(ctx, "the client's key", redisidem.Request{Method: "POST", Path: "/orders"}, placeOrder)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(key.Response.Code, string(key.Response.Body))
	}
	order()
	server.FlushAll()
	order()

	var orders int
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM orders").Scan(&orders); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("orders:", orders)
	// Output:
	// 201 {"order":1}
	// 201 {"order":1}
	// orders: 1
}
