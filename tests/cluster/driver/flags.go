package main

import (
	"flag"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
)

// flags are the part of a config that a person can say without a file. A file
// replaces all of it.
func (c *config) flags() {
	flag.Int64Var(&c.Node.Limit, "attach-limit", 0, "how many volumes there can be on the node; 0: without limit")
	flag.Func("topology", "where the node is, as `key=value,...`", func(given string) error {
		c.Node.Labels = map[string]string{}
		for _, label := range strings.Split(given, ",") {
			key, value, ok := strings.Cut(label, "=")
			if !ok {
				return fmt.Errorf("%q is not key=value", label)
			}
			c.Node.Labels[key] = value
		}
		return nil
	})
	flag.Func("fail", "the first calls of a method fail, as `Method=Code:count`; may be repeated", func(given string) error {
		method, rest, _ := strings.Cut(given, "=")
		name, times, _ := strings.Cut(rest, ":")
		count, err := strconv.Atoi(times)
		if err != nil {
			return fmt.Errorf("%q is not Method=Code:count", given)
		}
		for code := codes.OK; code <= codes.Unauthenticated; code++ {
			if code.String() == name {
				for range count {
					// Each is for the first call that no entry before it was for.
					c.Script = append(c.Script, upset{Method: method, Code: code, Nth: 1})
				}
				return nil
			}
		}
		return fmt.Errorf("%q is no code of gRPC", name)
	})
}
