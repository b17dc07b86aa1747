// The parsers of cron expressions that schedules meet, as a filter: the peer of the differential test.
//
// Each line of standard input is {"expression": "...", "after": SECONDS}; each line of the output has two answers, of
// robfig/cron ("classic": CronJobs, Veleros up to 1.17) and of netresearch/go-cron ("newer": Velero 1.18.3), each either
// {"invalid": "..."} or {"next": [SECONDS, ...]} with up to three times, fewer where it finds none.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"time"

	newer "github.com/netresearch/go-cron"
	classic "github.com/robfig/cron/v3"
)

type question struct {
	Expression string `json:"expression"`
	After      int64  `json:"after"`
}

type schedule interface{ Next(time.Time) time.Time }

type answer struct {
	Invalid string  `json:"invalid,omitempty"`
	Next    []int64 `json:"next"`
}

type answers struct {
	Classic answer `json:"classic"`
	Newer   answer `json:"newer"`
}

func ask(q question, parse func(string) (schedule, error)) (reply answer) {
	// Velero catches what falls over, and calls it invalid.
	defer func() {
		if r := recover(); r != nil {
			reply = answer{Invalid: fmt.Sprint(r)}
		}
	}()
	parsed, err := parse(q.Expression)
	if err != nil {
		return answer{Invalid: err.Error()}
	}
	at := time.Unix(q.After, 0).UTC()
	for range 3 {
		at = parsed.Next(at)
		if at.IsZero() {
			break
		}
		reply.Next = append(reply.Next, at.Unix())
	}
	return reply
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		reply, err := json.Marshal(answers{
			Classic: ask(q, func(text string) (schedule, error) { return classic.ParseStandard(text) }),
			Newer:   ask(q, func(text string) (schedule, error) { return newer.ParseStandard(text) }),
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Fprintln(out, string(reply))
	}
}
