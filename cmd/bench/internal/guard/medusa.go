package guard

func AddMedusaSQL(url string) {}
