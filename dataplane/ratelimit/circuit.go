package ratelimit

import (
	"log/slog"
	"sync"
	"time"
)

// alone is how long a pod goes on by itself after the database has failed it, before one try asks again.
const alone = time.Second

// circuit keeps tries from waiting, one after the other, for a database that does not answer.
type circuit struct {
	log *slog.Logger

	mu      sync.Mutex
	failing bool
	until   time.Time
}

// admit tells whether the database may be asked. While it is failing, one try in each interval may.
func (c *circuit) admit(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing && now.Before(c.until) {
		return false
	}
	c.until = now.Add(alone)
	return true
}

func (c *circuit) failed(now time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.failing {
		c.log.Warn("the database does not answer in time: this pod limits by what it sees itself", "error", err)
	}
	c.failing, c.until = true, now.Add(alone)
}

func (c *circuit) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing {
		c.log.Info("the database answers again: limits hold across pods")
	}
	c.failing = false
}
