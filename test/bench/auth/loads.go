package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// apiClients are the users that call during the flood, each over a connection.
	apiClients = 8
	// floodConns bound the flood's connections. A login that finds none free is not sent, and counted.
	floodConns = 1024
)

// calls are the latencies of calls that were due, and how many of them failed.
type calls struct {
	latencies []time.Duration
	failed    outcomes
}

// steady calls the API at a rate, whether or not the calls before were answered: what waits for those is late by as
// much. Latencies count from when a call was due. One that fails counts as long as the whole run.
func (r *rig) steady(ctx context.Context, d time.Duration) calls {
	var (
		mu  sync.Mutex
		all = calls{failed: outcomes{}}
		wg  sync.WaitGroup
	)
	begun := time.Now()
	between := time.Second * apiClients / time.Duration(r.o.rate)
	for i := range apiClients {
		wg.Go(func() {
			at := schedule{
				due:     begun.Add(between * time.Duration(i) / apiClients),
				end:     begun.Add(d),
				between: between,
			}
			callAt(ctx, r.tokens[i], at, func(status int, took time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				if status != http.StatusOK {
					all.failed[status]++
					took = max(took, d)
				}
				all.latencies = append(all.latencies, took)
			})
		})
	}
	wg.Wait()
	return all
}

// schedule is when the calls of one client are due.
type schedule struct {
	due, end time.Time
	between  time.Duration
}

func callAt(ctx context.Context, token string, at schedule, done func(status int, took time.Duration)) {
	w, request := &wire{}, listRequest(token)
	defer w.close()
	for due := at.due; due.Before(at.end) && ctx.Err() == nil; due = due.Add(at.between) {
		time.Sleep(time.Until(due))
		done(w.do(ctx, request), time.Since(due))
	}
}

// String is how long they took, and how many failed.
func (c calls) String() string {
	text := fmt.Sprintf("p50 %8s p99 %8s", short(percentile(c.latencies, 0.5)), short(percentile(c.latencies, 0.99)))
	if len(c.failed) > 0 {
		text += fmt.Sprintf(", failed: %s", c.failed)
	}
	return text
}

// busy calls the API over a number of connections, each the next time once the last is answered, and returns the calls
// a second.
func (r *rig) busy(ctx context.Context, d time.Duration) (float64, error) {
	counts, failed := make([]int, len(r.tokens)), make([]int, len(r.tokens))
	var wg sync.WaitGroup
	begun := time.Now()
	for i, token := range r.tokens {
		wg.Go(func() {
			w, request := &wire{}, listRequest(token)
			defer w.close()
			for time.Since(begun) < d && failed[i] == 0 {
				if status := w.do(ctx, request); status != http.StatusOK {
					failed[i] = status
				}
				counts[i]++
			}
		})
	}
	wg.Wait()
	took, n := time.Since(begun), 0
	for i, c := range counts {
		n += c
		if failed[i] != 0 {
			return 0, fmt.Errorf("a call was answered %d", failed[i])
		}
	}
	return float64(n) / took.Seconds(), ctx.Err()
}

// outcomes of requests: answers by their status.
type outcomes map[int]int

// Outcomes without a status.
const (
	noAnswer = 1
	// notSent is a login that was due while all connections waited for an answer.
	notSent = 2
)

func (o outcomes) total() (n int) {
	for status, c := range o {
		if status != notSent {
			n += c
		}
	}
	return n
}

// String names the outcomes.
func (o outcomes) String() string {
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(o)) {
		name := map[int]string{notSent: "not sent", noAnswer: "no answer"}[status]
		if name == "" {
			name = fmt.Sprint(status)
		}
		parts = append(parts, fmt.Sprintf("%s: %d", name, o[status]))
	}
	return strings.Join(parts, ", ")
}

// attack tries passwords from one address at a rate, whether or not the tries before were answered.
func (r *rig) attack(ctx context.Context, from string, email func(n int) string, d time.Duration) outcomes {
	var (
		mu   sync.Mutex
		got  = outcomes{}
		wg   sync.WaitGroup
		jobs = make(chan []byte)
	)
	count := func(status int) {
		mu.Lock()
		defer mu.Unlock()
		got[status]++
	}
	conns := 0
	begun := time.Now()
	for sent := 0; time.Since(begun) < d && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		for due := int(time.Since(begun).Seconds() * float64(r.o.flood)); sent < due; sent++ {
			request := loginRequest(email(sent))
			select {
			case jobs <- request:
				continue
			default:
			}
			if conns == floodConns {
				count(notSent)
				continue
			}
			conns++
			wg.Go(func() { tryAll(ctx, from, request, jobs, count) })
		}
	}
	close(jobs)
	wg.Wait()
	return got
}

func tryAll(ctx context.Context, from string, request []byte, jobs <-chan []byte, count func(status int)) {
	w := &wire{from: from}
	defer w.close()
	for ok := true; ok; request, ok = <-jobs {
		count(w.do(ctx, request))
	}
}
