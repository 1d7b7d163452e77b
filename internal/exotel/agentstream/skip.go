package agentstream

import "bytes"

// skip reads any value. Nesting is kept in bits, so that no sender can make a stack grow.
func (c *cursor) skip() {
	var objects uint64 // bit n: the container at depth n is an object
	depth := 0
	for {
		opened := false
		switch c.peek() {
		case '{', '[':
			if depth == maxDepth {
				c.fail()
				return
			}
			objects = objects<<1 | uint64(c.b[c.i]>>5&1) // '{' is 0x7b, '[' is 0x5b
			c.i++
			depth++
			opened = true
		default:
			c.scalar()
		}
		if depth = c.closeContainers(&objects, depth, opened); depth == 0 || c.bad {
			return
		}
	}
}

// closeContainers reads what stands between a value and the next one, and returns the depth at which that one is.
func (c *cursor) closeContainers(objects *uint64, depth int, opened bool) int {
	for depth > 0 && !c.bad {
		isObject := *objects&1 == 1
		switch b := c.peek(); {
		case isObject && b == '}', !isObject && b == ']':
			c.i++
			*objects >>= 1
			depth--
			opened = false
			continue
		case opened:
		case b == ',':
			c.i++
		default:
			c.fail()
		}
		if isObject && !c.bad {
			c.key()
		}
		break
	}
	return depth
}

// scalar reads a string, a number or a literal.
func (c *cursor) scalar() {
	switch c.peek() {
	case '"':
		c.span()
	case 't':
		c.literal("true")
	case 'f':
		c.literal("false")
	case 'n':
		c.literal("null")
	default:
		c.numeral()
	}
}

func (c *cursor) literal(want string) {
	if !bytes.HasPrefix(c.b[c.i:], []byte(want)) {
		c.fail()
		return
	}
	c.i += len(want)
}

// numeral reads a number as JSON spells it.
func (c *cursor) numeral() {
	c.optional('-')
	if !c.optional('0') {
		c.digits()
	}
	if c.optional('.') {
		c.digits()
	}
	if c.optional('e') || c.optional('E') {
		if !c.optional('+') {
			c.optional('-')
		}
		c.digits()
	}
}

func (c *cursor) optional(want byte) bool {
	if c.i < len(c.b) && c.b[c.i] == want {
		c.i++
		return true
	}
	return false
}

// digits reads one or more.
func (c *cursor) digits() {
	from := c.i
	for c.i < len(c.b) && '0' <= c.b[c.i] && c.b[c.i] <= '9' {
		c.i++
	}
	if c.i == from {
		c.fail()
	}
}
