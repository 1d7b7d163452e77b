package fair_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/caly-dev/caly/internal/fair"
)

// TestQueueTakesTurns pops a value of each key in turn, and the values of a key in their order.
func TestQueueTakesTurns(t *testing.T) {
	var q fair.Queue[string]
	for i := range 4 {
		q.Push("noisy", fmt.Sprint("noisy", i))
	}
	q.Push("a", "a0")
	q.Push("b", "b0")
	q.Push("a", "a1")
	if first := slices.Sorted(q.Oldest()); !slices.Equal(first, []string{"a0", "b0", "noisy0"}) {
		t.Errorf("the oldest values are %v", first)
	}
	var got []string
	for q.Len() > 0 {
		v, ok := q.Pop()
		if !ok {
			t.Fatal("a queue with values has none to pop")
		}
		got = append(got, v)
	}
	if want := []string{"noisy0", "a0", "b0", "noisy1", "a1", "noisy2", "noisy3"}; !slices.Equal(got, want) {
		t.Errorf("popped %v, want %v", got, want)
	}
	if v, ok := q.Pop(); ok {
		t.Errorf("an empty queue has %q", v)
	}
}

// TestQueueOfMany compares the queue with a plain model, through random steps.
func TestQueueOfMany(t *testing.T) {
	var q fair.Queue[int]
	model := map[string][]int{}
	keyOf := map[int]string{}
	length := 0
	for next := range 200_000 {
		key := fmt.Sprint(rand.IntN(5))
		switch values := model[key]; {
		case rand.IntN(100) < 50:
			q.Push(key, next)
			keyOf[next] = key
			model[key] = append(values, next)
			length++
		case len(values) > 0 && rand.IntN(4) == 0:
			i := rand.IntN(len(values))
			if !q.Remove(key, values[i]) || q.Remove(key, values[i]) {
				t.Fatal("a value is not removed once")
			}
			model[key] = slices.Delete(values, i, i+1)
			length--
		default:
			got, ok := q.Pop()
			if ok != (length > 0) {
				t.Fatalf("popped %d, %t from a queue of %d", got, ok, length)
			}
			if !ok {
				continue
			}
			of := keyOf[got]
			if model[of][0] != got {
				t.Fatalf("%d is not the oldest value of its key", got)
			}
			model[of] = model[of][1:]
			length--
		}
		if q.Len() != length {
			t.Fatalf("the length is %d, want %d", q.Len(), length)
		}
	}
	if q.Remove("unknown", 1) {
		t.Error("a value of an unknown key was removed")
	}
}

// TestQueueAllocatesNothing tests that a value costs no memory in a steady state.
func TestQueueAllocatesNothing(t *testing.T) {
	var q fair.Queue[*int]
	value := new(int)
	keys := []string{"a", "b", "c"}
	step := func() {
		for i := range 300 {
			q.Push(keys[i%len(keys)], value)
		}
		for q.Len() > 0 {
			q.Pop()
		}
	}
	step()
	if n := testing.AllocsPerRun(100, step); n > 0 {
		t.Errorf("%v allocations for 300 values", n)
	}
}
