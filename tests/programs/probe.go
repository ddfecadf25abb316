// A plain Go program that writes down what Go's runtime takes from its surroundings: time, randomness, the order of maps,
// goroutines, files.
package main

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"sync"
	"time"
)

func main() {
	fmt.Println(os.Args[1:], os.Environ())
	start := time.Now()
	fmt.Println(start.UTC(), time.Local)
	time.Sleep(time.Hour)
	fmt.Println(time.Since(start) >= time.Hour)

	words := map[string]int{}
	for i := range 100 {
		words[fmt.Sprint("word ", i)] = i
	}
	for word := range words {
		fmt.Print(word, ";")
	}
	bytes := make([]byte, 16)
	rand.Read(bytes)
	fmt.Println(bytes, mathrand.Uint64())

	var group sync.WaitGroup
	sums := make(chan int, 8)
	for worker := range 8 {
		group.Go(func() {
			sum := 0
			for i := range 1000 {
				sum += i * worker
			}
			sums <- sum
		})
	}
	group.Wait()
	for range 8 {
		fmt.Print(<-sums, " ")
	}
	text, err := os.ReadFile("/in/text")
	fmt.Println(string(text), err)
	entries, err := os.ReadDir("/")
	fmt.Println(entries, err)
	if err := os.WriteFile("/out/made", []byte("made by Go\n"), 0o644); err != nil {
		panic(err)
	}
}
