"""`weigh measure`."""

from __future__ import annotations

import click

from weighbridge.cli import here, output


@click.command("measure")
@click.argument("source")
@click.option("--repeat", type=click.IntRange(1, 1000), default=5, show_default=True, help="Repetitions that count.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads of the processor.")
@click.option("--prompt", "prompt_tokens", type=output.Count(), default=512, show_default=True,
              help="Tokens of a prompt.")  # fmt: skip
@click.option("--output", "output_tokens", type=output.Count(), default=128, show_default=True,
              help="Tokens of an answer.")  # fmt: skip
@click.option("--save", is_flag=True, help="Keep the factors, so that plans on `here` follow them.")
@output.json_option
def command(
    source: str, repeat: int, threads: int, prompt_tokens: int, output_tokens: int, save: bool, as_json: bool
) -> None:  # fmt: skip
    """Run a model here and set measured speed and memory against those predicted by `weigh fit --on here`.

    SOURCE is a GGUF file, which llama.cpp runs (the extra `run`), or a folder of safetensors, which transformers runs
    (the extra `torch`); in a process of its own and on the processor. Run `weigh probe` first.
    """
    import time

    from weighbridge.hardware.measured import HERE
    from weighbridge.hardware.meter import meter
    from weighbridge.hardware.probe import kept_at, saved_device, with_measured
    from weighbridge.measuring.comparison import measure
    from weighbridge.output_file import write_text

    device = saved_device(kept_at())
    assert device.name == HERE
    found = measure(source, device, repeat=repeat, threads=threads, prompt_tokens=prompt_tokens,
                    output_tokens=output_tokens, tell=here.progress(),
                    meter=meter(time.monotonic, with_cards=False))  # fmt: skip
    if save:
        assert device.measured is not None
        write_text(kept_at(), with_measured(kept_at(), found.learned(device.measured)))
    if as_json:
        output.print_json(found.to_json())
        return
    from weighbridge.show import probes

    output.print_lines(probes.comparison_lines(found))
    if save:
        click.echo("kept: plans on `here` now follow these factors")
