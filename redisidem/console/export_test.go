package console

// PurgePageByPage lets each step of a purge end after one page.
func (c *Console) PurgePageByPage() { c.purgeTime = -1 }
