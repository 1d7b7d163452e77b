// Package resilience is how Caly calls what may fail: one table that says which failures are worth another try, one retry
// policy, and a circuit breaker for each (tenant, dependency), so that one tenant's dead bucket slows nobody else.
package resilience
