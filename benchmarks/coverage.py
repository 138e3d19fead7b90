"""Models of timm and torchvision by name: which a space is written around, and why not the others.

`pip install timm` in an environment of this benchmark alone. Each is made anew, without trained
weights, and read for pictures of 96 pixels (Inception of 128); its norms get other statistics
first. Of each that is read: how far the space's largest network is from the module, in shares of
the largest output, how many networks there are and how many lines the grammar has; of the others
where and why they are refused.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from measure import report
from torch import nn

from nas.around import UnreadError, space_of

TIMM = (
    "resnet18 resnet50 resnet26d resnext50_32x4d regnetx_002 regnety_002 vgg11_bn densenet121 "
    "mobilenetv2_100 mobilenetv3_small_100 mobilenetv4_conv_small mnasnet_100 efficientnet_b0 "
    "tf_efficientnet_b0 ghostnet_100 repvgg_a0 dla34 hrnet_w18_small inception_v3 lcnet_050 "
    "mobileone_s0 convnext_atto convnext_nano deit3_small_patch16_224 vit_tiny_patch16_224 "
    "convnextv2_atto mixer_s32_224"
)
TORCHVISION = (
    "alexnet squeezenet1_1 googlenet shufflenet_v2_x0_5 resnet18 mobilenet_v2 mobilenet_v3_small "
    "efficientnet_b0 mnasnet0_5 regnet_x_400mf wide_resnet50_2 convnext_tiny vit_b_16 swin_t"
)


SIDES = {"inception": 128, "vit": 224, "deit": 224, "mixer": 224, "swin": 224}  # of pictures


def libraries() -> tuple[Any, Any]:
    """timm and torchvision's models. torchvision from PyPI is built for another torch than a CPU's,
    and what it cannot register of its own operators is passed over."""
    register: Any = torch.library.register_fake

    def lenient(operator: Any, *words: Any, **more: Any) -> Callable[[Any], Any]:
        if isinstance(operator, str) and operator.startswith("torchvision::"):
            return lambda function: function
        made: Callable[[Any], Any] = register(operator, *words, **more)
        return made

    torch.library.register_fake = lenient  # type: ignore[assignment]
    try:
        import timm
        import torchvision.models
    finally:
        torch.library.register_fake = register
    return timm, torchvision.models


def row(name: str, make: Callable[[], nn.Module]) -> dict[str, Any]:
    torch.manual_seed(0)
    module, begun = make(), time.process_time()
    side = next((side for word, side in SIDES.items() if word in name), 96)
    try:
        space = space_of(module, (3, side, side))
    except UnreadError as error:
        return {"model": name, "read": "no", "refused": str(error)}
    facts = space.facts()
    return {
        "model": name,
        "read": "yes",
        "difference": facts["difference"],
        "architectures": f"{facts['architectures']:.1e}",
        "lines": len(space.text.splitlines()),
        "least of its FLOPs": facts["least_flops"] / facts["flops"],
        "CPU s": time.process_time() - begun,
        "refused": "",
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--timm", nargs="*", default=TIMM.split())
    parser.add_argument("--torchvision", nargs="*", default=TORCHVISION.split())
    words = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    timm, models = libraries()
    makes = {name: lambda name=name: timm.create_model(name) for name in words.timm}
    makes |= {
        f"torchvision {name}": lambda name=name: getattr(models, name)(weights=None)
        for name in words.torchvision
    }
    rows = []
    for name, make in makes.items():
        rows.append(row(name, make))
        print(rows[-1], flush=True)
    read = [entry for entry in rows if entry["read"] == "yes"]
    worst = max((entry["difference"] for entry in read), default=0.0)
    report(
        "coverage",
        __doc__,
        aim="at least 20 read, equal to 1e-4 of the largest output; refusals say where and why",
        figure=f"{len(read)} of {len(rows)} read, equal to {worst:.0e}",
        rows=rows,
    )


if __name__ == "__main__":
    main()
