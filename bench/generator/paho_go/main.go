// Paho for Go (MQTT 3.1.1): the same conversation as clients/lines.py, published in the same ticks.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func main() {
	endpoint := os.Args[1]
	count, _ := strconv.Atoi(os.Args[2])
	intervalS, _ := strconv.ParseFloat(os.Args[3], 64)
	seconds, _ := strconv.ParseFloat(os.Args[4], 64)
	payloadBytes, _ := strconv.Atoi(os.Args[5])
	qos, _ := strconv.Atoi(os.Args[6])
	input := bufio.NewReader(os.Stdin)
	wait := func() { _, _ = input.ReadString('\n') }

	fmt.Println("started")
	wait()
	began := time.Now()
	clients := make([]mqtt.Client, count)
	topics := make([]string, count)
	var group sync.WaitGroup
	room := make(chan struct{}, 500)
	for n := range clients {
		name := fmt.Sprintf("BENCH%012d", n)
		topics[n] = fmt.Sprintf("fleet/v1/%s/%s/telemetry", name[len(name)-2:], name)
		options := mqtt.NewClientOptions().AddBroker("tcp://" + endpoint).SetClientID(name).
			SetCleanSession(true).SetKeepAlive(60 * time.Second).SetOrderMatters(false)
		clients[n] = mqtt.NewClient(options)
		group.Add(1)
		room <- struct{}{}
		go func() {
			defer group.Done()
			if token := clients[n].Connect(); token.Wait() && token.Error() != nil {
				fmt.Fprintln(os.Stderr, token.Error())
				os.Exit(1)
			}
			<-room
		}()
	}
	group.Wait()
	fmt.Println("connected", time.Since(began).Seconds())
	wait()

	payload := bytes.Repeat([]byte("x"), payloadBytes)
	var acknowledged atomic.Int64
	tokens := make(chan mqtt.Token, 1<<16)
	done := make(chan struct{})
	go func() {
		for token := range tokens {
			token.Wait()
			if token.Error() == nil {
				acknowledged.Add(1)
			}
		}
		close(done)
	}()
	sent := 0
	began = time.Now()
	for {
		elapsed := time.Since(began).Seconds()
		if elapsed >= seconds {
			break
		}
		for due := int(elapsed * float64(count) / intervalS); sent < due; sent++ {
			tokens <- clients[sent%count].Publish(topics[sent%count], byte(qos), false, payload)
		}
		time.Sleep(50 * time.Millisecond)
	}
	close(tokens)
	<-done
	fmt.Println("published", sent, acknowledged.Load())
	wait()
}
