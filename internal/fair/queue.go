package fair

import (
	"iter"
	"slices"
)

// Queue holds values of several keys, such as the IDs of tenants. Pop takes a value of each key in turn, so the wait of
// a value does not depend on the number of values of another key. The zero value is an empty queue. It is not safe for
// concurrent use.
type Queue[T comparable] struct {
	keys map[string]*values[T]
	// first and last of the keys, in the order of their turns.
	first, last *values[T]
	length      int
	unused      []*values[T]
}

// values of one key, in their order of arrival. Those before head are taken.
type values[T comparable] struct {
	key  string
	list []T
	head int
	next *values[T] // in the order of turns
}

// Len returns the number of values.
func (q *Queue[T]) Len() int { return q.length }

// Push adds a value to those of its key. The turn of a key without values comes last.
func (q *Queue[T]) Push(key string, value T) {
	v := q.keys[key]
	if v == nil {
		v = q.newKey(key)
	}
	v.list = append(v.list, value)
	q.length++
}

// Pop returns the oldest value of the key whose turn it is; false if the queue is empty.
func (q *Queue[T]) Pop() (value T, ok bool) {
	for q.first != nil && !ok {
		v := q.first
		if q.first = v.next; q.first == nil {
			q.last = nil
		}
		if value, ok = v.pop(); ok {
			q.length--
		}
		if v.head < len(v.list) {
			q.append(v)
		} else {
			q.drop(v)
		}
	}
	return value, ok
}

// Remove takes a value out and reports whether it was in the queue.
func (q *Queue[T]) Remove(key string, value T) bool {
	v := q.keys[key]
	if v == nil {
		return false
	}
	i := slices.Index(v.list[v.head:], value)
	if i < 0 {
		return false
	}
	v.list = slices.Delete(v.list, v.head+i, v.head+i+1)
	q.length-- // a key without values is dropped in its turn
	return true
}

// Oldest yields the oldest value of each key, in no order.
func (q *Queue[T]) Oldest() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, v := range q.keys {
			if v.head < len(v.list) && !yield(v.list[v.head]) {
				return
			}
		}
	}
}

func (q *Queue[T]) newKey(key string) *values[T] {
	var v *values[T]
	if n := len(q.unused); n > 0 {
		v = q.unused[n-1]
		q.unused = q.unused[:n-1]
	} else {
		v = new(values[T])
	}
	v.key = key
	if q.keys == nil {
		q.keys = map[string]*values[T]{}
	}
	q.keys[key] = v
	q.append(v)
	return v
}

// drop keeps the memory for another key.
func (q *Queue[T]) drop(v *values[T]) {
	delete(q.keys, v.key)
	*v = values[T]{list: v.list[:0]}
	q.unused = append(q.unused, v)
}

func (q *Queue[T]) append(v *values[T]) {
	v.next = nil
	if q.last == nil {
		q.first = v
	} else {
		q.last.next = v
	}
	q.last = v
}

// pop takes the oldest value. Once half of the list is taken, the rest moves to its front.
func (v *values[T]) pop() (value T, ok bool) {
	if v.head == len(v.list) {
		return value, false
	}
	var none T
	value = v.list[v.head]
	v.list[v.head] = none
	v.head++
	if 2*v.head > len(v.list) {
		v.list = slices.Delete(v.list, 0, v.head)
		v.head = 0
	}
	return value, true
}
